//! What should go wrong with an exchange.

use std::fmt;
use std::str::FromStr;

/// What should go wrong. The text form is what a simulated server understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Refused with status 429: `429`.
    RateLimited,
    /// Refused with status 500: `500`.
    ServerError,
    /// An HTML page with status 502, as a proxy in between would send: `html`.
    HtmlPage,
    /// Nothing more comes after so many tokens, yet the connection stays: `stall:N`.
    Stall(u32),
    /// The connection ends after so many tokens, without a terminal event: `cut:N`.
    Cut(u32),
    /// An error event inside the 200 stream after so many tokens: `error:N`.
    ErrorEvent(u32),
    /// No usage is reported: `no_usage`.
    NoUsage,
    /// Cumulative usage in every chunk of the stream: `cumulative`.
    Cumulative,
    /// Ten times as slow: `slow`.
    Slow,
    /// The client, not the server, hangs up after so many tokens: `hang_up:N`.
    HangUp(u32),
}

impl Fault {
    /// Whether a server must be told of it; the others are the client's own doing.
    #[must_use]
    pub const fn is_servers(self) -> bool {
        !matches!(self, Self::HangUp(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RateLimited => f.write_str("429"),
            Self::ServerError => f.write_str("500"),
            Self::HtmlPage => f.write_str("html"),
            Self::Stall(after) => write!(f, "stall:{after}"),
            Self::Cut(after) => write!(f, "cut:{after}"),
            Self::ErrorEvent(after) => write!(f, "error:{after}"),
            Self::NoUsage => f.write_str("no_usage"),
            Self::Cumulative => f.write_str("cumulative"),
            Self::Slow => f.write_str("slow"),
            Self::HangUp(after) => write!(f, "hang_up:{after}"),
        }
    }
}

/// The text names no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown fault `{0}`: expected 429, 500, html, stall:N, cut:N, error:N, no_usage, cumulative, slow or hang_up:N"
)]
pub struct ParseFaultError(String);

impl FromStr for Fault {
    type Err = ParseFaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || ParseFaultError(text.chars().take(40).collect());
        let (name, after) = match text.split_once(':') {
            Some((name, count)) => (name, Some(count.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (name, after) {
            ("429", None) => Ok(Self::RateLimited),
            ("500", None) => Ok(Self::ServerError),
            ("html", None) => Ok(Self::HtmlPage),
            ("stall", Some(after)) => Ok(Self::Stall(after)),
            ("cut", Some(after)) => Ok(Self::Cut(after)),
            ("error", Some(after)) => Ok(Self::ErrorEvent(after)),
            ("no_usage", None) => Ok(Self::NoUsage),
            ("cumulative", None) => Ok(Self::Cumulative),
            ("slow", None) => Ok(Self::Slow),
            ("hang_up", Some(after)) => Ok(Self::HangUp(after)),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_round_trips_through_its_text() {
        for fault in [
            Fault::RateLimited,
            Fault::ServerError,
            Fault::HtmlPage,
            Fault::Stall(0),
            Fault::Cut(20),
            Fault::ErrorEvent(3),
            Fault::NoUsage,
            Fault::Cumulative,
            Fault::Slow,
            Fault::HangUp(7),
        ] {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        for wrong in ["", "cut", "cut:", "cut:-1", "429:1", "boom"] {
            assert!(wrong.parse::<Fault>().is_err(), "{wrong}");
        }
    }
}
