//! The gateway: clients speak to it as to their provider; every attempt it makes for them is on the
//! journal before they have the last byte.
//!
//! Sockets, TLS, upstreams and the policies in force. What bytes mean is `metering`'s, what they
//! cost is `tariff`'s, and what is told of them is for whoever is given the settled exchanges.

mod access;
mod answer;
mod attempts;
mod body;
mod call;
mod client_io;
mod clock;
mod door;
mod failure;
mod keys;
mod labels;
mod limits;
mod metrics;
mod recent;
mod redact;
mod run;
mod server;
mod settings;
mod shared;
mod upstream;

pub use clock::{Clock, Timer};
pub use journal::OnFailure;
pub use keys::{
    KeyHash, KeyRing, KeyState, Keys, NewKey, ParseHashError, VirtualKey, is_key_id, is_key_name,
};
pub use labels::{MAX_TAGS, is_label};
pub use recent::Recent;
pub use server::Gateway;
pub use settings::{
    Limits, ModelTarget, Retry, RouteSettings, Settings, SettingsError, Unmetered, Upstream,
};
pub use shared::{Page, Watch};
