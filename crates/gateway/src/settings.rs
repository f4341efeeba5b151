//! What the gateway is told to do, validated.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use facts::Api;
use hyper::header::HeaderValue;
use hyper::{Method, Uri};
use journal::OnFailure;
use metering::Convention;
use quantity::Money;

use crate::door::check_unmetered;
use crate::keys::{KeyRing, VirtualKey};

/// A server that answers for models.
#[derive(Clone)]
pub struct Upstream {
    /// Its name in the configuration, reports and journal.
    pub name: String,
    /// How it speaks and counts.
    pub convention: Convention,
    /// Up to and with `/v1`, Gemini's with `/v1beta`, without a slash at the end.
    pub base_url: Uri,
    /// Its own key; without one the client's credential is passed on, unless that is a key of ours.
    pub key: Option<String>,
    /// Whose rows of the price book apply.
    pub provider: Option<String>,
    /// The region in which it runs, in lower case: rows limited to it apply.
    pub region: Option<String>,
    /// US dollars an hour, for GPUs of our own.
    pub hourly_cost: Option<Money>,
    /// How long it may take, and how much at once.
    pub limits: Limits,
}

/// How long an upstream may take, and how many attempts it may have at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// From the request to the head of the reply.
    pub first_byte: Duration,
    /// Between two chunks of the reply.
    pub idle: Duration,
    /// From the request to the end of the reply.
    pub total: Duration,
    /// Attempts at once; more wait.
    pub concurrent: Option<usize>,
    /// How long they wait for a place.
    pub queue: Duration,
}

/// Long enough for a reasoning model that thinks for minutes before it answers in one piece.
impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(600),
            idle: Duration::from_secs(300),
            total: Duration::from_secs(3_600),
            concurrent: None,
            queue: Duration::from_secs(10),
        }
    }
}

/// When an exchange is tried again: while nothing of a reply went to the client, and only for
/// failures that another try may not meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Tries of one exchange, the first and fallbacks included.
    pub attempts: u32,
    /// The longest wait before a try. A provider that asks for more is not tried again.
    pub max_wait: Duration,
}

/// One try: clients' own libraries try again by default, and two that do so multiply.
impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 1, max_wait: Duration::from_secs(20) }
    }
}

/// The key is a secret; nothing else prints it either.
impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upstream({} at {})", self.name, self.base_url)
    }
}

/// Where a model name leads.
#[derive(Debug, Clone)]
pub struct ModelTarget {
    /// Index into [`Settings::upstreams`].
    pub upstream: usize,
    /// The model's name there; `None` keeps the name.
    pub model: Option<String>,
}

/// What a route wants.
#[derive(Debug, Clone, Copy, Default)]
pub struct RouteSettings {
    /// Whether unary replies carry their cost.
    pub cost_header: bool,
    /// Whether a stream whose client left is read to its end, for its usage.
    pub drain: bool,
    /// What becomes of its exchanges while the journal takes no records, if not what of all others.
    pub on_ledger_failure: Option<OnFailure>,
}

/// A path that passes without being metered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmetered {
    /// GET, POST or DELETE.
    pub method: Method,
    /// As clients ask for it, such as `/v1/images/generations`; a `*` for its last segment stands for
    /// any one segment.
    pub path: String,
    /// Where it leads: an index into [`Settings::upstreams`].
    pub upstream: usize,
}

/// Everything the gateway is told. Not for printing: it holds keys.
#[derive(Clone)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// A key that clients may present, without limits. Where there is one or a virtual one, clients
    /// must present one; without, only loopback is served.
    pub access_key: Option<String>,
    /// The key that opens pages and metrics, and spends nothing.
    pub admin_key: Option<String>,
    /// The virtual keys.
    pub keys: Arc<KeyRing>,
    /// Names by which clients may call it, beside loopback's.
    pub allowed_hosts: Vec<String>,
    /// The upstreams; the first that speaks an API is that API's default.
    pub upstreams: Vec<Upstream>,
    /// Model names with targets of their own: the first, then those to fall back to.
    pub models: BTreeMap<String, Vec<ModelTarget>>,
    /// When an exchange is tried again.
    pub retry: Retry,
    /// What becomes of exchanges while the journal takes no records.
    pub on_ledger_failure: OnFailure,
    /// How long an admission or a settlement may wait for the journal.
    pub ledger_timeout: Duration,
    /// Routes with wishes of their own.
    pub routes: BTreeMap<String, RouteSettings>,
    /// Names for routes that were derived: `auto-1a2b3c4d` to `chat`.
    pub route_names: BTreeMap<String, String>,
    /// Paths that pass without being metered.
    pub unmetered: Vec<Unmetered>,
    /// How long a client may take none of the bytes that wait for it.
    pub client_timeout: Duration,
    /// The largest request body, bytes.
    pub max_body: usize,
}

/// Settings that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Anyone who reaches the machine could spend money.
    #[error(
        "`listen` is `{0}`, which others can reach, and there is no virtual key (`farthing key \
         create`) and no `access_key_env`: expected a loopback address such as `127.0.0.1:8787`, or a \
         key that clients must present"
    )]
    OpenToAll(SocketAddr),
    /// Whoever may call would see what all others spend.
    #[error("the access key and the admin key are the same: expected two")]
    OneKey,
    /// There is nobody to pass requests to.
    #[error("no upstream is configured")]
    NoUpstream,
    /// An upstream's key cannot be sent in a header.
    #[error("the key of upstream `{0}` has characters that no HTTP header may have")]
    BadKey(String),
    /// A method that does not pass unmetered.
    #[error("invalid `unmetered[{0}].method`: expected GET, POST or DELETE, found `{1}`")]
    BadMethod(usize, Method),
    /// A path that does not pass unmetered.
    #[error(
        "invalid `unmetered[{0}].path`: expected a path below /v1 or /v1beta of plain segments, of \
         which the last may be `*`, such as `/v1/images/generations`, found `{1}`"
    )]
    BadPath(usize, String),
    /// A path that needs no leave.
    #[error(
        "invalid `unmetered[{0}]`: expected a path that is not served yet; `{1}` is, or never is"
    )]
    NotUnmetered(usize, String),
}

impl Settings {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn check(&self) -> Result<(), SettingsError> {
        if !self.listen.ip().is_loopback() && !self.asks_for_key() {
            return Err(SettingsError::OpenToAll(self.listen));
        }
        if self.access_key.is_some() && self.access_key == self.admin_key {
            return Err(SettingsError::OneKey);
        }
        if self.upstreams.is_empty() {
            return Err(SettingsError::NoUpstream);
        }
        for upstream in &self.upstreams {
            let key = upstream.key.as_deref().unwrap_or_default();
            if HeaderValue::from_str(key).is_err() {
                return Err(SettingsError::BadKey(upstream.name.clone()));
            }
        }
        for (index, unmetered) in self.unmetered.iter().enumerate() {
            check_unmetered(index, unmetered)?;
        }
        Ok(())
    }

    /// Whether clients must present a key.
    #[must_use]
    pub fn asks_for_key(&self) -> bool {
        self.access_key.is_some() || !self.keys.get().is_empty()
    }

    /// Where an exchange may go, in order of preference. Empty if no upstream that the key may use
    /// speaks the API for that model.
    pub(crate) fn targets(
        &self,
        api: Api,
        model: Option<&str>,
        key: Option<&VirtualKey>,
    ) -> Vec<ModelTarget> {
        let allowed = |upstream: &Upstream| key.is_none_or(|key| key.may_use(&upstream.name));
        let speaks = |upstream: &Upstream| upstream.convention.speaks(api) && allowed(upstream);
        if let Some(targets) = model.and_then(|model| self.models.get(model)) {
            let speaking = targets.iter().filter(|target| speaks(&self.upstreams[target.upstream]));
            return speaking.cloned().collect();
        }
        let first = self.upstreams.iter().position(speaks);
        first.map(|upstream| ModelTarget { upstream, model: None }).into_iter().collect()
    }

    /// Where a path that is not metered leads; nowhere if the key may not use that.
    pub(crate) fn unmetered_target(
        &self,
        unmetered: &Unmetered,
        key: Option<&VirtualKey>,
    ) -> Vec<ModelTarget> {
        let upstream = &self.upstreams[unmetered.upstream];
        let may = key.is_none_or(|key| key.may_use(&upstream.name));
        let target = ModelTarget { upstream: unmetered.upstream, model: None };
        may.then_some(target).into_iter().collect()
    }

    pub(crate) fn route(&self, route: &str) -> RouteSettings {
        self.routes.get(route).copied().unwrap_or_default()
    }
}
