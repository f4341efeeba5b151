//! What a case asks for: tasks become calls, calls become tokens.

use crate::scenario::{Case, HOURS_OF_WEEK, Profile, Var};
use crate::unit::HOURS_PER_MONTH;

/// A kind of call, as the turns and steps of a task make it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// How many of them a task has.
    pub calls: f64,
    /// Input tokens, cached ones included.
    pub input: f64,
    /// Tokens of the answer.
    pub answer: f64,
    /// Tokens of reasoning before it.
    pub reasoning: f64,
}

impl Shape {
    /// Tokens of output, reasoning included.
    #[must_use]
    pub fn output(&self) -> f64 {
        self.answer + self.reasoning
    }
}

/// Tokens by class. Classes are disjoint.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tokens {
    /// Input that is computed.
    pub input: f64,
    /// Input read from the prompt cache.
    pub cached: f64,
    /// Answers.
    pub answer: f64,
    /// Reasoning.
    pub reasoning: f64,
}

impl Tokens {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.input + self.cached + self.output()
    }

    /// Answers and reasoning.
    #[must_use]
    pub fn output(&self) -> f64 {
        self.answer + self.reasoning
    }

    /// So many times as many.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self {
            input: self.input * factor,
            cached: self.cached * factor,
            answer: self.answer * factor,
            reasoning: self.reasoning * factor,
        }
    }
}

/// What a month asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    /// Users; `None` where tasks are said outright.
    pub users: Option<f64>,
    /// Tasks for each user, or 1.
    pub tasks_per_user: f64,
    /// Tasks in the month.
    pub tasks: f64,
    /// Calls of a task, without those made again.
    pub calls_per_task: f64,
    /// How often a call is made, with those made again.
    pub attempts_per_call: f64,
    /// The share of attempts whose tokens are of use: neither repeated nor failed.
    pub useful: f64,
    /// The kinds of calls of a task.
    pub shapes: Vec<Shape>,
    /// Tokens of all attempts.
    pub tokens: Tokens,
}

impl Demand {
    /// Of a month from 0, by its growth, and by the season of a month of the year (January is 0), if that is known.
    #[must_use]
    pub fn of(case: &Case, profile: &Profile, month: u32, season: Option<usize>) -> Self {
        let grown = |var: Var| libm::pow(1.0 + case.at(var), f64::from(month));
        let season = season.map_or(1.0, |of_year| profile.month(of_year));
        let (users, tasks_per_user) = match case.get(Var::Tasks) {
            Some(tasks) => (None, tasks),
            None => (case.get(Var::Users), case.at(Var::TasksPerUser)),
        };
        let tasks_per_user = tasks_per_user * grown(Var::UseGrowth);
        let users = users.map(|users| users * grown(Var::UsersGrowth) * season);
        let tasks = match users {
            Some(users) => users * tasks_per_user,
            None => tasks_per_user * grown(Var::UsersGrowth) * season,
        };
        let shapes = shapes(
            case,
            grown(Var::CallsGrowth),
            grown(Var::InputGrowth),
            grown(Var::OutputGrowth),
        );
        let calls_per_task = shapes.iter().map(|shape| shape.calls).sum();
        let attempts_per_call = 1.0 + case.at(Var::Retries);
        let useful = (1.0 - case.at(Var::Failures)) / attempts_per_call;
        let mut one = Tokens::default();
        for shape in &shapes {
            let cached = shape.input * case.at(Var::Cached);
            one.cached += shape.calls * cached;
            one.input += shape.calls * (shape.input - cached);
            one.answer += shape.calls * shape.answer;
            one.reasoning += shape.calls * shape.reasoning;
        }
        let tokens = one.times(tasks * attempts_per_call);
        Self {
            users,
            tasks_per_user,
            tasks,
            calls_per_task,
            attempts_per_call,
            useful,
            shapes,
            tokens,
        }
    }

    /// So many times as many tasks of the same kind.
    #[must_use]
    pub fn times(&self, factor: f64) -> Self {
        Self {
            users: self.users.map(|users| users * factor),
            tasks_per_user: self.tasks_per_user * if self.users.is_some() { 1.0 } else { factor },
            tasks: self.tasks * factor,
            tokens: self.tokens.times(factor),
            shapes: self.shapes.clone(),
            ..*self
        }
    }

    /// Calls in the month, without those made again.
    #[must_use]
    pub fn calls(&self) -> f64 {
        self.tasks * self.calls_per_task
    }

    /// Calls in the month, with those made again.
    #[must_use]
    pub fn attempts(&self) -> f64 {
        self.calls() * self.attempts_per_call
    }

    /// Attempts a second in each hour of the week.
    #[must_use]
    pub fn per_second(&self, profile: &Profile) -> [f64; HOURS_OF_WEEK] {
        let mean = self.mean_per_second();
        profile.week().map(|weight| weight * mean)
    }

    /// Attempts a second on the mean over all hours.
    #[must_use]
    pub fn mean_per_second(&self) -> f64 {
        self.attempts() / HOURS_PER_MONTH / 3600.0
    }

    /// Mean input and output tokens of a call.
    #[must_use]
    pub fn mean_lengths(&self) -> (f64, f64) {
        let mean = |of: fn(&Shape) -> f64| {
            let sum: f64 = self.shapes.iter().map(|shape| shape.calls * of(shape)).sum();
            sum / self.calls_per_task
        };
        (mean(|shape| shape.input), mean(Shape::output))
    }

    /// The share of all input that calls have in common with calls before them: system prompt and tool schemas with all calls,
    /// the turns before with the last turn, and within a turn all that its call before had. Retrieved context is taken to
    /// differ from turn to turn, and so is input that is known only as a whole.
    #[must_use]
    pub fn in_common(&self, case: &Case) -> f64 {
        let fixed = match case.get(Var::Input) {
            Some(_) => 0.0,
            None => case.at(Var::System) + case.at(Var::Tools),
        };
        let Some(first) = self.shapes.first() else { return 0.0 };
        let new = (first.input - fixed).max(0.0);
        let of_turn = self.shapes.len() / parts(case.at(Var::Turns)).count().max(1);
        let (mut common, mut all) = (0.0, 0.0);
        for turn in self.shapes.chunks(of_turn.max(1)) {
            let mut prefix = (turn[0].input - new).max(0.0);
            for shape in turn {
                common += shape.calls * prefix;
                all += shape.calls * shape.input;
                prefix = shape.input;
            }
        }
        if all > 0.0 { common / all } else { 0.0 }
    }

    /// Mean tokens of a call that are computed: input that is not read from the prompt cache, and output.
    #[must_use]
    pub fn computed_lengths(&self, case: &Case) -> (f64, f64) {
        let (input, output) = self.mean_lengths();
        (input * (1.0 - case.at(Var::Cached)), output)
    }
}

/// The calls of a task. Each turn sends the turns before it again, as far as history is kept; each further call of a turn has
/// the answer and the tools' results of those before it.
fn shapes(case: &Case, calls: f64, input: f64, output: f64) -> Vec<Shape> {
    let turns = case.at(Var::Turns);
    let calls = (case.at(Var::Calls) * calls).clamp(1.0, 1_000.0);
    let answer = case.at(Var::Answer) * output;
    let message = case.at(Var::Message);
    let first = case.get(Var::Input).unwrap_or_else(|| {
        [Var::System, Var::Tools, Var::Context].iter().map(|var| case.at(*var)).sum::<f64>()
            + message
    });
    let first = first * input;
    // Where only the whole input is known, a turn's message is what the answer before it left to ask: nothing.
    let history = case.at(Var::History) * (message * input + answer);
    let step = case.at(Var::ToolResult) * input + answer;
    let mut shapes = Vec::new();
    for (turn, turn_part) in parts(turns) {
        for (call, call_part) in parts(calls) {
            let input = (first + turn * history + call * step).max(1.0);
            let thinks = input >= case.at(Var::ReasoningAbove);
            let reasoning = if thinks { (case.at(Var::Reasoning) - 1.0) * answer } else { 0.0 };
            shapes.push(Shape { calls: turn_part * call_part, input, answer, reasoning });
        }
    }
    shapes
}

/// The whole ones of a count by number from 0, and what is left as a part of the last: 2.5 is 1, 1 and 0.5.
fn parts(count: f64) -> impl Iterator<Item = (f64, f64)> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most a thousand"
    )]
    let whole = count.ceil() as u32;
    (0..whole).map(move |number| {
        let number = f64::from(number);
        (number, (count - number).min(1.0))
    })
}
