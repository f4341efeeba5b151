//! The demo product: an hour of a small company's traffic, made from a seed.
//!
//! Each feature has a token shape and a way of wasting money of its own; two of them,
//! `assistant-lean` and `assistant-heavy`, are the same product built twice.

use std::time::Duration;

use quantity::TokenCount;

use crate::{Api, Arrival, Fault, Labels, Random, Request, Role, Segment, Shape, Workload};

const HOUR: Duration = Duration::from_secs(3600);
/// Conversations start early enough to end about within the hour.
const LAST_START: Duration = Duration::from_secs(50 * 60);

const SMALL: &str = "gpt-5-mini";
const LARGE: &str = "gpt-5.5";
const CLAUDE_SMALL: &str = "claude-haiku-4-5";
const CLAUDE_MID: &str = "claude-sonnet-5-5";
const EMBEDDING: &str = "text-embedding-3-small";
/// Runs on hardware that is paid by the hour.
const OWN: &str = "llama-3.3-70b-own";
/// In nobody's price book.
const UNPRICED: &str = "mystery-1";

/// One hour of traffic of the demo product, about 3,300 exchanges.
///
/// Support gets four times its usual load from minute 25 to 29; OpenAI's small model refuses much
/// of what it is asked in minute 33; the nightly batch starts at once in minute 40.
#[must_use]
pub fn demo(seed: u64) -> Workload {
    let random = Random::new(seed);
    let mut script = Script::default();
    script.support_chat(random.fork("support-chat"));
    script.docs_question(random.fork("docs-question"));
    script.agent(random.fork("incident-agent"));
    script.titles(random.fork("title-generator"));
    script.triage(random.fork("ticket-triage"));
    script.summaries(random.fork("contract-summary"));
    script.nightly(random.fork("nightly-report"));
    script.indexing(random.fork("docs-index"));
    script.assistants(&random.fork("assistant"));
    script.prototype(random.fork("prototype"));
    Workload::new(script.requests).expect("a script follows up only on what it has told before")
}

#[derive(Default)]
struct Script {
    requests: Vec<Request>,
}

/// What happens to a request beside the reply.
#[derive(Clone, Copy, PartialEq)]
enum Luck {
    /// As in life: about one in forty meets a fault.
    Usual,
    /// Nothing goes wrong.
    Good,
}

fn tokens(count: u32) -> TokenCount {
    TokenCount::from(count)
}

fn segment(role: Role, tokens: TokenCount, identity: u64) -> Segment {
    Segment { role, tokens, identity }
}

fn minute(at: Duration) -> u64 {
    at.as_secs() / 60
}

fn even(_: Duration) -> f64 {
    1.0
}

/// Someone of a team of this size.
fn someone(random: &mut Random, team: &str, size: u64) -> String {
    format!("{team}-{:02}", 1 + random.below(size))
}

fn labels(route: &str, task_type: &str, task_id: String, team: &str, user: String) -> Labels {
    Labels {
        route: Some(route.to_owned()),
        task_type: Some(task_type.to_owned()),
        task_id: Some(task_id),
        user: Some(user),
        team: Some(team.to_owned()),
        tags: vec![("env".to_owned(), "prod".to_owned())],
    }
}

fn request(api: Api, model: &str, arrival: Arrival, labels: &Labels, shape: Shape) -> Request {
    Request {
        arrival,
        api,
        stream: false,
        model: model.to_owned(),
        labels: labels.clone(),
        shape,
        fault: None,
        retry: 0,
    }
}

impl Script {
    /// Adds a request, and the client's retry if the request is refused. Returns the index of the
    /// one to follow up on.
    fn tell(&mut self, random: &mut Random, luck: Luck, mut request: Request) -> usize {
        if luck == Luck::Usual {
            request.fault = fault(random, &request);
        }
        let refused = matches!(request.fault, Some(Fault::RateLimited | Fault::ServerError));
        self.requests.push(request.clone());
        if refused {
            let parent = self.requests.len() - 1;
            let think = random.within(Duration::from_secs(1), Duration::from_secs(3));
            request.arrival = Arrival::After { parent, think };
            request.fault = None;
            request.retry += 1;
            self.requests.push(request);
        }
        self.requests.len() - 1
    }

    /// Conversations of a few turns: the history grows, the prefix is cached.
    fn support_chat(&mut self, mut random: Random) {
        let system = segment(Role::System, tokens(1_800), random.next());
        let tools = segment(Role::Tools, tokens(600), random.next());
        let busy = |at| if (25..29).contains(&minute(at)) { 4.0 } else { 1.0 };
        for (number, start) in random.arrivals(LAST_START, 112, 4.0, busy).into_iter().enumerate() {
            let user = someone(&mut random, "customer", 80);
            let labels =
                labels("support-chat", "ticket", format!("T-{}", 4_100 + number), "support", user);
            let mut prompt = vec![tools, system];
            let mut arrival = Arrival::At(start);
            for _ in 0..1 + random.below(5) {
                prompt.push(segment(Role::User, random.tokens(60, 0.6, 400), random.next()));
                let output = random.tokens(130, 0.5, 400);
                let shape = Shape {
                    prompt: prompt.clone(),
                    marks_cache: true,
                    tools_offered: 3,
                    output,
                    max_tokens: Some(tokens(512)),
                    ..Shape::default()
                };
                let turn = request(Api::AnthropicMessages, CLAUDE_SMALL, arrival, &labels, shape);
                let told = self.tell(&mut random, Luck::Usual, Request { stream: true, ..turn });
                prompt.push(segment(Role::Assistant, output, random.next()));
                let think = random.within(Duration::from_secs(15), Duration::from_secs(90));
                arrival = Arrival::After { parent: told, think };
            }
        }
    }

    /// A question is embedded, then answered from a large context that was looked up.
    fn docs_question(&mut self, mut random: Random) {
        let system = segment(Role::System, tokens(700), random.next());
        for (number, start) in random.arrivals(HOUR, 320, 1.0, even).into_iter().enumerate() {
            let user = someone(&mut random, "reader", 120);
            let labels =
                labels("docs-question", "question", format!("Q-{number}"), "knowledge", user);
            let question = segment(Role::User, random.tokens(35, 0.5, 200), random.next());
            let lookup = request(
                Api::OpenAiEmbeddings,
                EMBEDDING,
                Arrival::At(start),
                &labels,
                Shape { prompt: vec![question], ..Shape::default() },
            );
            let looked_up = self.tell(&mut random, Luck::Good, lookup);
            let context = segment(Role::Retrieved, random.tokens(2_600, 0.4, 8_000), random.next());
            let shape = Shape {
                prompt: vec![system, context, question],
                output: random.tokens(160, 0.5, 500),
                reasoning: tokens(64),
                max_tokens: Some(tokens(600)),
                ..Shape::default()
            };
            let arrival = Arrival::After { parent: looked_up, think: Duration::from_millis(80) };
            let answer = request(Api::OpenAiChat, SMALL, arrival, &labels, shape);
            self.tell(&mut random, Luck::Usual, Request { stream: true, ..answer });
        }
    }

    /// Loops of tool calls; one task in ten never finds its end and runs until it is stopped.
    fn agent(&mut self, mut random: Random) {
        const RUNAWAY_STEPS: u64 = 50;
        let system = segment(Role::System, tokens(2_500), random.next());
        let tools = segment(Role::Tools, tokens(3_000), random.next());
        // A fixed number of tasks, so that every seed has its runaways.
        let mut starts: Vec<Duration> =
            (0..40).map(|_| random.within(Duration::ZERO, LAST_START)).collect();
        starts.sort_unstable();
        for (number, start) in starts.into_iter().enumerate() {
            let runaway = number % 10 == 3;
            let steps = if runaway { RUNAWAY_STEPS } else { 3 + random.below(6) };
            let user = someone(&mut random, "oncall", 6);
            let labels =
                labels("incident-agent", "incident", format!("INC-{number}"), "platform", user);
            let task = segment(Role::User, random.tokens(220, 0.4, 800), random.next());
            let mut prompt = vec![tools, system, task];
            let mut arrival = Arrival::At(start);
            for step in 1..=steps {
                let last = step == steps && !runaway;
                let output = random.tokens(if last { 260 } else { 70 }, 0.4, 400);
                let shape = Shape {
                    prompt: prompt.clone(),
                    marks_cache: true,
                    tools_offered: 12,
                    tools_called: u32::from(!last),
                    output,
                    reasoning: random.tokens(90, 0.5, 400),
                    max_tokens: Some(tokens(2_048)),
                };
                let call = request(Api::AnthropicMessages, CLAUDE_MID, arrival, &labels, shape);
                let luck = if runaway { Luck::Good } else { Luck::Usual };
                let told = self.tell(&mut random, luck, Request { stream: last, ..call });
                prompt.push(segment(Role::Assistant, output, random.next()));
                prompt.push(segment(
                    Role::ToolResult,
                    random.tokens(350, 0.6, 1_500),
                    random.next(),
                ));
                let think = random.within(Duration::from_millis(300), Duration::from_secs(4));
                arrival = Arrival::After { parent: told, think };
            }
        }
    }

    /// Tiny requests that nobody thinks of.
    fn titles(&mut self, mut random: Random) {
        let system = segment(Role::System, tokens(60), random.next());
        for (number, start) in random.arrivals(HOUR, 320, 1.0, even).into_iter().enumerate() {
            let user = someone(&mut random, "customer", 80);
            let labels = labels("title-generator", "title", format!("C-{number}"), "web", user);
            let shape = Shape {
                prompt: vec![
                    system,
                    segment(Role::User, random.tokens(70, 0.5, 300), random.next()),
                ],
                output: random.tokens(7, 0.3, 16),
                max_tokens: Some(tokens(24)),
                ..Shape::default()
            };
            let title = request(Api::OpenAiChat, SMALL, Arrival::At(start), &labels, shape);
            self.tell(&mut random, Luck::Usual, title);
        }
    }

    /// One word per ticket, often, on the company's own hardware.
    fn triage(&mut self, mut random: Random) {
        let system = segment(Role::System, tokens(240), random.next());
        for (number, start) in random.arrivals(HOUR, 700, 1.0, even).into_iter().enumerate() {
            let user = someone(&mut random, "mailbox", 3);
            let labels =
                labels("ticket-triage", "ticket", format!("M-{}", 9_000 + number), "support", user);
            let shape = Shape {
                prompt: vec![
                    system,
                    segment(Role::User, random.tokens(180, 0.7, 1_500), random.next()),
                ],
                output: random.tokens(3, 0.3, 6),
                max_tokens: Some(tokens(8)),
                ..Shape::default()
            };
            let class = request(Api::OpenAiChat, OWN, Arrival::At(start), &labels, shape);
            self.tell(&mut random, Luck::Usual, class);
        }
    }

    /// Documents of about a hundred thousand tokens; some summaries hit the cap.
    fn summaries(&mut self, mut random: Random) {
        let system = segment(Role::System, tokens(400), random.next());
        for (number, start) in random.arrivals(LAST_START, 36, 1.0, even).into_iter().enumerate() {
            let user = someone(&mut random, "counsel", 5);
            let labels =
                labels("contract-summary", "document", format!("D-{number}"), "legal", user);
            let document = random.tokens(95_000, 0.25, 160_000);
            let shape = Shape {
                prompt: vec![system, segment(Role::Retrieved, document, random.next())],
                output: random.tokens(480, 0.3, 900),
                reasoning: tokens(128),
                max_tokens: Some(tokens(800)),
                ..Shape::default()
            };
            let summary = request(Api::OpenAiChat, LARGE, Arrival::At(start), &labels, shape);
            self.tell(&mut random, Luck::Usual, Request { stream: true, ..summary });
        }
    }

    /// Everything at once, and nobody waits for it.
    fn nightly(&mut self, mut random: Random) {
        let system = segment(Role::System, tokens(900), random.next());
        let start = Duration::from_secs(40 * 60);
        for number in 0..150 {
            let mut labels = labels(
                "nightly-report",
                "report",
                format!("R-{number}"),
                "finance",
                "scheduler".to_owned(),
            );
            labels.tags.push(("lane".to_owned(), "batch".to_owned()));
            let shape = Shape {
                prompt: vec![
                    system,
                    segment(Role::Retrieved, random.tokens(2_400, 0.3, 6_000), random.next()),
                ],
                output: random.tokens(210, 0.3, 400),
                max_tokens: Some(tokens(1_024)),
                ..Shape::default()
            };
            let arrival =
                Arrival::At(start + random.within(Duration::ZERO, Duration::from_secs(5)));
            let report = request(Api::AnthropicMessages, CLAUDE_SMALL, arrival, &labels, shape);
            self.tell(&mut random, Luck::Usual, report);
        }
    }

    /// Documents on their way into the index.
    fn indexing(&mut self, mut random: Random) {
        for (number, start) in random.arrivals(HOUR, 60, 1.0, even).into_iter().enumerate() {
            let labels = labels(
                "docs-index",
                "document",
                format!("P-{number}"),
                "knowledge",
                "crawler".to_owned(),
            );
            let page = segment(Role::User, random.tokens(1_800, 0.5, 8_000), random.next());
            let shape = Shape { prompt: vec![page], ..Shape::default() };
            let arrival = Arrival::At(start);
            let embed = request(Api::OpenAiEmbeddings, EMBEDDING, arrival, &labels, shape);
            self.tell(&mut random, Luck::Usual, embed);
        }
    }

    /// The same questions at the same moments, answered by a product that was built with care and
    /// by one that was not: a persona of five thousand tokens, ten documents where two would do,
    /// and no cap on the answer.
    fn assistants(&mut self, random: &Random) {
        let mut shared = random.fork("questions");
        let lean_system = segment(Role::System, tokens(320), shared.next());
        let persona = segment(Role::System, tokens(5_200), shared.next());
        for (number, start) in shared.arrivals(HOUR, 230, 1.0, even).into_iter().enumerate() {
            let user = someone(&mut shared, "employee", 60);
            let question = segment(Role::User, shared.tokens(40, 0.4, 200), shared.next());
            let documents: Vec<Segment> = (0..10)
                .map(|_| segment(Role::Retrieved, shared.tokens(520, 0.2, 1_000), shared.next()))
                .collect();
            let answer = shared.tokens(110, 0.3, 200);
            let padded = answer.plus(shared.tokens(260, 0.3, 500)).unwrap_or(answer);
            for (route, system, documents, output, max_tokens) in [
                ("assistant-lean", lean_system, &documents[..2], answer, Some(tokens(200))),
                ("assistant-heavy", persona, &documents[..], padded, None),
            ] {
                let labels =
                    labels(route, "question", format!("A-{number}"), "workplace", user.clone());
                let mut prompt = vec![system];
                prompt.extend_from_slice(documents);
                prompt.push(question);
                let shape = Shape { prompt, output, max_tokens, ..Shape::default() };
                let told = request(Api::OpenAiChat, LARGE, Arrival::At(start), &labels, shape);
                self.requests.push(Request { stream: true, ..told });
            }
        }
    }

    /// Somebody's script: no labels at all, and a model that no price book knows.
    fn prototype(&mut self, mut random: Random) {
        let system = segment(Role::System, tokens(150), random.next());
        for start in random.arrivals(HOUR, 45, 1.0, even) {
            let shape = Shape {
                prompt: vec![
                    system,
                    segment(Role::User, random.tokens(120, 0.6, 600), random.next()),
                ],
                output: random.tokens(80, 0.5, 300),
                ..Shape::default()
            };
            let stream = random.chance(0.5);
            let arrival = Arrival::At(start);
            let try_out = request(Api::OpenAiChat, UNPRICED, arrival, &Labels::default(), shape);
            self.tell(&mut random, Luck::Usual, Request { stream, ..try_out });
        }
    }
}

/// What goes wrong with a request, if anything.
fn fault(random: &mut Random, request: &Request) -> Option<Fault> {
    // Drawn whether used or not, so that one fault more does not move everything after it.
    let (lot, outage) = (random.unit(), random.chance(0.5));
    let output = u32::try_from(request.shape.output.get()).unwrap_or(u32::MAX);
    let part_way = u32::try_from(random.below(u64::from(output.max(2)))).unwrap_or(1);
    if let Arrival::At(at) = request.arrival
        && request.model == SMALL
        && minute(at) == 33
        && outage
    {
        return Some(Fault::RateLimited);
    }
    Some(match (lot, request.stream) {
        (..0.006, _) => Fault::RateLimited,
        (..0.010, _) => Fault::ServerError,
        (..0.012, _) if request.api != Api::OpenAiEmbeddings => Fault::NoUsage,
        (..0.014, _) => Fault::Slow,
        (..0.018, true) => Fault::Cut(part_way),
        (..0.020, true) => Fault::ErrorEvent(part_way),
        (..0.032, true) => Fault::HangUp(part_way),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn on_route(workload: &Workload, route: &str) -> Vec<Request> {
        let wanted = |request: &&Request| request.labels.route.as_deref() == Some(route);
        workload.requests().iter().filter(wanted).cloned().collect()
    }

    #[test]
    fn a_seed_names_one_hour() {
        assert_eq!(demo(1), demo(1));
        assert_ne!(demo(1), demo(2));
    }

    #[test]
    fn every_seed_is_of_a_size_that_a_laptop_plays() {
        for seed in 0..20 {
            let workload = demo(seed);
            let total = workload.describe().total();
            assert!((2_500..4_000).contains(&total.requests), "seed {seed}: {total:?}");
            assert!(total.input.get() < 25_000_000, "seed {seed}: {total:?}");
            assert!(total.generated.get() < 700_000, "seed {seed}: {total:?}");
            assert!(total.faulty > 30, "seed {seed}: {total:?}");
            assert!(workload.roots().all(|(at, _)| at < HOUR));
        }
    }

    #[test]
    fn the_models_are_those_that_the_demo_needs() {
        let workload = demo(1);
        let models: BTreeSet<&str> =
            workload.requests().iter().map(|request| request.model.as_str()).collect();
        let expected = [SMALL, LARGE, CLAUDE_SMALL, CLAUDE_MID, EMBEDDING, OWN, UNPRICED];
        assert_eq!(models, BTreeSet::from(expected));
    }

    #[test]
    fn the_twins_differ_only_in_waste() {
        let workload = demo(1);
        let (lean, heavy) =
            (on_route(&workload, "assistant-lean"), on_route(&workload, "assistant-heavy"));
        assert_eq!(lean.len(), heavy.len());
        for (lean, heavy) in lean.iter().zip(&heavy) {
            assert_eq!((lean.arrival, &lean.model), (heavy.arrival, &heavy.model));
            assert_eq!(lean.labels.task_id, heavy.labels.task_id);
            assert_eq!(lean.labels.user, heavy.labels.user);
            assert_eq!((lean.fault, heavy.fault), (None, None));
            assert_eq!(lean.shape.prompt.last(), heavy.shape.prompt.last());
            assert_eq!(lean.shape.prompt[1..3], heavy.shape.prompt[1..3]);
            assert!(heavy.shape.input().get() > 4 * lean.shape.input().get());
            assert_eq!(heavy.shape.max_tokens, None);
        }
    }

    #[test]
    fn a_conversation_grows_and_keeps_its_prefix() {
        let workload = demo(1);
        let mut followed = 0;
        for request in on_route(&workload, "support-chat") {
            let Arrival::After { parent, .. } = request.arrival else { continue };
            let before = &workload.requests()[parent].shape;
            assert_eq!(request.shape.shared_prefix(before), before.input());
            followed += 1;
        }
        assert!(followed > 100, "{followed}");
    }

    #[test]
    fn one_agent_task_in_ten_runs_away() {
        let workload = demo(1);
        let agent = on_route(&workload, "incident-agent");
        let tasks: BTreeSet<_> =
            agent.iter().filter_map(|request| request.labels.task_id.clone()).collect();
        let steps = |task: &String| {
            agent.iter().filter(|request| request.labels.task_id.as_ref() == Some(task)).count()
        };
        let long = tasks.iter().filter(|task| steps(task) >= 50).count();
        assert_eq!((tasks.len(), long), (40, 4));
    }

    #[test]
    fn a_refused_request_is_tried_again_without_the_fault() {
        let workload = demo(1);
        let mut retries = 0;
        for request in workload.requests().iter().filter(|request| request.retry > 0) {
            let Arrival::After { parent, .. } = request.arrival else {
                panic!("a retry follows something")
            };
            let refused = &workload.requests()[parent];
            assert!(matches!(refused.fault, Some(Fault::RateLimited | Fault::ServerError)));
            assert_eq!((&refused.shape, request.fault), (&request.shape, None));
            retries += 1;
        }
        assert!(retries > 10, "{retries}");
    }

    #[test]
    fn the_description_counts_every_request_once() {
        let workload = demo(1);
        let description = workload.describe();
        assert_eq!(description.total().requests, workload.requests().len() as u64);
        assert_eq!(description.routes.len(), 11);
        assert_eq!(description.to_string().lines().count(), 13);
        println!("{description}");
    }
}
