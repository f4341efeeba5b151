//! Questions.

use std::fmt;
use std::str::FromStr;

use quantity::Period;

use crate::{Attempt, Exchange};

/// What answers can be split by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// The product feature.
    Route,
    /// The model that answered.
    Model,
    /// The type of the task.
    TaskType,
    /// The task.
    Task,
    /// The team.
    Team,
    /// The end user.
    User,
    /// A tag by name.
    Tag(String),
    /// The upstream.
    Upstream,
    /// The provider whose prices apply; a server of one's own has none.
    Provider,
    /// The UTC day of admission.
    Day,
    /// The API spoken.
    Api,
    /// The virtual key presented.
    Key,
    /// The region that served, or in which the upstream runs.
    Region,
}

/// A text that names no dimension.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected one of `route`, `model`, `task_type`, `task`, `team`, `user`, `tag:NAME`, `upstream`, \
     `provider`, `day`, `api`, `key`, `region`, found `{0}`"
)]
pub struct ParseDimensionError(String);

impl FromStr for Dimension {
    type Err = ParseDimensionError;
    fn from_str(text: &str) -> Result<Self, ParseDimensionError> {
        Ok(match text {
            "route" => Self::Route,
            "model" => Self::Model,
            "task_type" => Self::TaskType,
            "task" => Self::Task,
            "team" => Self::Team,
            "user" => Self::User,
            "upstream" => Self::Upstream,
            "provider" => Self::Provider,
            "day" => Self::Day,
            "api" => Self::Api,
            "key" => Self::Key,
            "region" => Self::Region,
            _ => match text.strip_prefix("tag:") {
                Some(name) if !name.is_empty() => Self::Tag(name.to_owned()),
                _ => return Err(ParseDimensionError(text.to_owned())),
            },
        })
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Route => "route",
            Self::Model => "model",
            Self::TaskType => "task_type",
            Self::Task => "task",
            Self::Team => "team",
            Self::User => "user",
            Self::Upstream => "upstream",
            Self::Provider => "provider",
            Self::Day => "day",
            Self::Api => "api",
            Self::Key => "key",
            Self::Region => "region",
            Self::Tag(name) => return write!(f, "tag:{name}"),
        })
    }
}

impl Dimension {
    /// Its value for an attempt of an exchange, or for an exchange that ended before any attempt;
    /// `None` when there is none.
    #[must_use]
    pub fn of(&self, exchange: &Exchange, attempt: Option<&Attempt>) -> Option<String> {
        let labels = &exchange.admission.labels;
        match self {
            Self::Route => Some(labels.route.clone()),
            Self::Model => attempt?.model().map(str::to_owned),
            Self::TaskType => labels.task_type.clone(),
            Self::Task => labels.task.clone(),
            Self::Team => labels.team.clone(),
            Self::User => labels.user.clone(),
            Self::Tag(name) => {
                labels.tags.iter().find(|(tag, _)| tag == name).map(|(_, value)| value.clone())
            }
            Self::Upstream => Some(attempt?.dispatch.upstream.clone()),
            Self::Provider => attempt?.dispatch.provider.clone(),
            Self::Day => Some(exchange.admission.at.day().to_string()),
            Self::Api => Some(exchange.admission.api.name().to_owned()),
            Self::Key => exchange.admission.key.clone(),
            Self::Region => attempt?.region().map(str::to_owned),
        }
    }
}

/// Which exchanges, split by what. Exchanges belong to the period in which they were admitted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// The dimensions, in order; none asks for the total alone.
    pub by: Vec<Dimension>,
    /// When.
    pub period: Period,
}
