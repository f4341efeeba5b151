//! The quantities of a scenario: their keys, what they are counted in, and what holds where nothing is said.

/// What a quantity is counted in, and so how it may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Tokens, people, replicas: `2000`, `2,000`, `2k`, `1.5M`.
    Count,
    /// A share: `60%`, or a number from 0 to 1.
    Share,
    /// A plain number.
    Factor,
    /// So many a month of 730 hours, written with its time: `50,000/day`.
    PerMonth,
    /// A share by which something changes each month: `5%/month`, `60%/year`.
    Growth,
    /// US dollars: `20k`, `$20,000`.
    Usd,
    /// US dollars an hour, written with their time: `$1,500/month`.
    UsdPerHour,
    /// Seconds, written with their unit: `90s`, `5min`.
    Seconds,
}

impl Kind {
    /// What it may be, with an example.
    #[must_use]
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Count => "a count such as 2000, \"2,000\", \"2k\" or \"1.5M\"",
            Self::Share => "a share such as \"60%\" or 0.6",
            Self::Factor => "a number such as 1.5",
            Self::PerMonth => "a count with its time such as \"50,000/day\" or \"4/month\"",
            Self::Growth => "a change with its time such as \"5%/month\" or \"-60%/year\"",
            Self::Usd => "US dollars such as 0.4, \"$20,000\" or \"20k\"",
            Self::UsdPerHour => {
                "US dollars with their time such as \"2.69/hour\" or \"$1,500/month\""
            }
            Self::Seconds => "a time such as \"500ms\", \"90s\", \"5min\" or \"2h\"",
        }
    }
}

/// What is known of a quantity before a scenario says anything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spec {
    /// Its key in the file: `demand.users`.
    pub key: &'static str,
    /// What it is counted in.
    pub kind: Kind,
    /// The least that makes sense.
    pub least: f64,
    /// The most.
    pub most: f64,
    /// What holds where nothing is said; `None`: nothing does.
    pub default: Option<f64>,
    /// What it is, in a few words.
    pub about: &'static str,
}

macro_rules! vars {
    ($($name:ident, $key:literal, $kind:ident, $least:literal ..= $most:literal, $default:expr, $about:literal;)*) => {
        /// A quantity of a scenario.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Var {
            $(#[doc = $about] $name,)*
        }

        impl Var {
            /// All of them, in the order of the tables.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What is known of it.
            #[must_use]
            pub const fn spec(self) -> Spec {
                match self {
                    $(Self::$name => Spec {
                        key: $key, kind: Kind::$kind, least: $least, most: $most, default: $default, about: $about,
                    },)*
                }
            }
        }
    };
}

vars! {
    Users, "demand.users", Count, 0.0..=1e12, None, "users";
    TasksPerUser, "demand.tasks_per_user", PerMonth, 0.0..=1e9, None, "tasks per user and month";
    Tasks, "demand.tasks", PerMonth, 0.0..=1e15, None, "tasks a month";
    Burstiness, "demand.burstiness", Factor, 1.0..=100.0, Some(1.0), "burstiness: squared variation of the gaps between calls (1: Poisson)";
    UsersGrowth, "growth.users", Growth, -0.99..=10.0, Some(0.0), "growth of users, or of tasks, a month";
    UseGrowth, "growth.tasks_per_user", Growth, -0.99..=10.0, Some(0.0), "growth of tasks per user a month";
    CallsGrowth, "growth.calls_per_turn", Growth, -0.99..=10.0, Some(0.0), "growth of calls per turn a month";
    InputGrowth, "growth.input", Growth, -0.99..=10.0, Some(0.0), "growth of input tokens a call and month";
    OutputGrowth, "growth.output", Growth, -0.99..=10.0, Some(0.0), "growth of output tokens a call and month";
    PriceGrowth, "growth.api_price", Growth, -0.99..=10.0, Some(0.0), "change of the API's prices a month";
    GpuPriceGrowth, "growth.gpu_price", Growth, -0.99..=10.0, Some(0.0), "change of the GPU's price a month";
    Turns, "task.turns", Factor, 1.0..=100.0, Some(1.0), "turns a task";
    Calls, "task.calls_per_turn", Factor, 1.0..=100.0, Some(1.0), "calls a turn (fan-out)";
    Retries, "task.retries", Share, 0.0..=10.0, Some(0.0), "calls made again";
    Failures, "task.failures", Share, 0.0..=0.99, Some(0.0), "calls that come to nothing";
    Success, "task.success_rate", Share, 0.0..=1.0, None, "tasks that succeed";
    Revenue, "task.revenue", Usd, 0.0..=1e9, None, "revenue of a successful task, USD";
    Input, "tokens.input", Count, 1.0..=1e8, None, "input tokens of a first call";
    System, "tokens.system", Count, 0.0..=1e8, Some(0.0), "tokens of the system prompt";
    Tools, "tokens.tools", Count, 0.0..=1e8, Some(0.0), "tokens of tool schemas";
    Context, "tokens.context", Count, 0.0..=1e8, Some(0.0), "tokens of retrieved context";
    Message, "tokens.message", Count, 0.0..=1e8, Some(0.0), "tokens of the user's message";
    ToolResult, "tokens.tool_result", Count, 0.0..=1e8, Some(0.0), "tokens that each further call of a turn has more, beside the answer before";
    Answer, "tokens.answer", Count, 1.0..=1e7, None, "tokens of an answer";
    History, "tokens.history", Share, 0.0..=1.0, Some(1.0), "earlier turns that are sent again";
    Reasoning, "tokens.reasoning", Factor, 1.0..=1000.0, Some(1.0), "output with reasoning, as a multiple of the answer";
    ReasoningAbove, "tokens.reasoning_above", Count, 0.0..=1e8, Some(0.0), "input tokens from which a call reasons";
    Cached, "tokens.cached", Share, 0.0..=1.0, Some(0.0), "input read from the prompt cache";
    Spread, "tokens.spread", Share, 0.0..=3.0, Some(0.0), "spread of lengths between calls, as a share of their mean";
    GpuHour, "gpus.price", UsdPerHour, 0.0..=1e5, None, "USD per GPU hour";
    Interruptions, "gpus.interruptions", PerMonth, 0.0..=1e5, Some(0.0), "interruptions of a spot GPU a month";
    Purchase, "owned.purchase", Usd, 0.0..=1e9, None, "purchase of a GPU with its share of server and network, USD";
    Residual, "owned.residual", Share, 0.0..=1.0, Some(0.1), "what it is sold for in the end, of the purchase";
    Years, "owned.years", Factor, 0.1..=30.0, Some(4.0), "years of use";
    Interest, "owned.interest", Share, 0.0..=1.0, Some(0.08), "interest a year";
    Load, "owned.load", Share, 0.0..=1.0, Some(0.7), "mean power of what it may draw";
    Pue, "owned.pue", Factor, 1.0..=5.0, Some(1.3), "PUE: power of the building for each kW of machines";
    PowerPrice, "owned.usd_per_kwh", Usd, 0.0..=100.0, Some(0.1), "USD per kWh";
    Colocation, "owned.hosting", UsdPerHour, 0.0..=1e5, Some(0.0), "space and hands, USD per GPU and hour";
    Spare, "fleet.spare", Count, 0.0..=1e4, Some(1.0), "spare replicas (N+1)";
    Zones, "fleet.zones", Count, 1.0..=100.0, Some(1.0), "zones, of which one may fail (1: none may)";
    Surge, "fleet.rolling_surge", Share, 0.0..=1.0, Some(0.25), "replicas more during a deploy";
    Deploys, "fleet.deploys", PerMonth, 0.0..=1e5, Some(8.0), "deploys a month";
    Headroom, "fleet.burst_headroom", Share, 0.0..=10.0, Some(0.2), "headroom above the peak hour";
    ColdStart, "fleet.cold_start", Seconds, 0.0..=86_400.0, Some(300.0), "cold start of a replica, seconds";
    Host, "costs.host", UsdPerHour, 0.0..=1e5, Some(0.0), "host, USD per GPU and hour";
    Storage, "costs.storage", UsdPerHour, 0.0..=1e6, Some(0.0), "storage, USD an hour";
    Network, "costs.network", UsdPerHour, 0.0..=1e6, Some(0.0), "network, USD an hour";
    Orchestration, "costs.orchestration", UsdPerHour, 0.0..=1e6, Some(0.0), "orchestration, USD an hour";
    Monitoring, "costs.monitoring", UsdPerHour, 0.0..=1e6, Some(0.0), "monitoring and logs, USD an hour";
    Safety, "costs.safety", UsdPerHour, 0.0..=1e6, Some(0.0), "safety pipeline, USD an hour";
    Licences, "costs.licences", UsdPerHour, 0.0..=1e5, Some(0.0), "licences, USD per GPU and hour";
    Staff, "costs.staff", Factor, 0.0..=1e4, Some(0.0), "people, full-time equivalents";
    Salary, "costs.salary", UsdPerHour, 0.0..=1e5, Some(0.0), "a full-time equivalent with all that goes with it, USD an hour of the year";
    OnCall, "costs.on_call", UsdPerHour, 0.0..=1e5, Some(0.0), "on-call rota, USD an hour";
    Reliability, "costs.reliability", Share, 0.0..=10.0, Some(0.0), "reliability overhead, of GPUs and infrastructure";
    Tuning, "costs.tuning", Usd, 0.0..=1e12, Some(0.0), "tuning or distillation, once, USD";
    TuningMonths, "costs.tuning_months", Count, 1.0..=1200.0, Some(12.0), "months that it is spread over";
}

impl Var {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Whether what is written varies between calls or tasks rather than being unsure: sums are then made of its mean.
    #[must_use]
    pub const fn varies(self) -> bool {
        matches!(self, Self::Calls | Self::Turns)
    }
}
