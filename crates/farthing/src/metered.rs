//! What the gateway metered, as the requests of a workload.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::bail;
use calibration::Seen;
use facts::{Attempt, End, Exchange};
use quantity::{Period, TokenCount, UnixTime, UsageSource};
use workload::{NamedRow, Row, block_names};

use crate::config::Config;
use crate::data::DataDir;

/// Engines keep prompts in blocks of so many tokens unless they are told otherwise.
const BLOCK: NonZeroU32 = NonZeroU32::new(16).expect("not zero");

/// Requests in the order of their arrival, and what is known of those that are none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls {
    calls: Vec<Call>,
    /// Exchanges of whose usage nothing is known.
    pub(crate) unknown: u64,
    /// Exchanges without tokens of a prompt or of a reply: refused, failed before any, embeddings.
    pub(crate) without_tokens: u64,
    /// Requests whose usage was estimated.
    pub(crate) estimated: u64,
    /// Input tokens of the requests that providers told to have read from a cache.
    pub(crate) cached: u64,
    /// Bytes of text that a token of a prompt has.
    token_bytes: f64,
}

/// An exchange as the model that served it saw it.
#[derive(Debug, Clone)]
struct Call {
    at: UnixTime,
    input: TokenCount,
    output: TokenCount,
    /// Its messages: what stands for each and all before it, and the bytes of text up to its end.
    messages: Box<[(u64, u64)]>,
}

impl Calls {
    /// The exchanges of a route, or of all, that were admitted in a period. Each is one request: the attempt that
    /// answered it.
    ///
    /// # Errors
    /// If the journal cannot be read, or nothing is in it.
    pub(crate) fn read(
        config: &Config,
        route: Option<&str>,
        period: Period,
    ) -> anyhow::Result<Self> {
        let data = DataDir::open(&config.data_dir)?;
        let mut all = Self::default();
        let mut routes = BTreeSet::new();
        data.each_exchange(period, |exchange| {
            let own = &exchange.admission.labels.route;
            // Derived routes go by the names that were given to them since.
            let own = config.settings.route_names.get(own).unwrap_or(own);
            if route.is_none_or(|route| route == own) {
                all.add(exchange);
            } else if !routes.contains(own) {
                routes.insert(own.clone());
            }
        })?;
        let of = route.map_or(String::new(), |route| format!(" of route `{route}`"));
        if all.calls.is_empty() && all.unknown + all.without_tokens == 0 {
            let routes: Vec<String> = routes.into_iter().collect();
            let none = || "none".to_owned();
            let routes = if routes.is_empty() { none() } else { routes.join(", ") };
            bail!("the ledger has nothing{of} in that period; its other routes then: {routes}");
        }
        if all.calls.is_empty() {
            bail!(
                "the ledger has no usage{of} in that period: of {} exchanges it is unknown, {} had no prompt or no reply",
                all.unknown,
                all.without_tokens
            );
        }
        all.calls.sort_by_key(|call| call.at);
        let (bytes, tokens) = all.calls.iter().fold((0, 0), |(bytes, tokens), call| {
            let text = call.messages.last().map_or(0, |(_, end)| *end);
            let tokens = tokens + if text > 0 { u128::from(call.input.get()) } else { 0 };
            (bytes + u128::from(text), tokens)
        });
        // No tokeniser has more tokens than bytes, whatever was told.
        all.token_bytes = (bytes as f64 / tokens as f64).max(1.0);
        Ok(all)
    }

    fn add(&mut self, exchange: &Exchange) {
        let Some(attempt) = exchange.attempts.last() else {
            self.without_tokens += 1;
            return;
        };
        let metered = &attempt.end.metered;
        if metered.source == UsageSource::Unknown {
            self.unknown += 1;
            return;
        }
        let usage = &metered.usage;
        let counts = [usage.input(), usage.output()].map(TokenCount::new);
        let [Some(input), Some(output)] = counts else {
            self.unknown += 1;
            return;
        };
        if input == TokenCount::ZERO || output == TokenCount::ZERO {
            self.without_tokens += 1;
            return;
        }
        self.estimated += u64::from(metered.source != UsageSource::Reported);
        let cached = usage.tokens.iter().filter(|(class, _)| class.is_cache_read());
        self.cached += cached.map(|(_, count)| count.get()).sum::<u64>();
        let prompt = &exchange.admission.prompt;
        // Schemas of tools come first; their names stand for them.
        let mut end = prompt.tool_schema_bytes;
        let tools = prompt.tools.iter().flat_map(|tool| tool.bytes().chain([0]));
        let tools = tools
            .fold(end, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let tools_end = (tools, end);
        let messages = prompt.messages.iter().map(|message| {
            end = end.saturating_add(message.text_bytes);
            (message.chain.0 ^ tools, end)
        });
        let messages = std::iter::once(tools_end).chain(messages).collect();
        self.calls.push(Call { at: exchange.admission.at, input, output, messages });
    }

    /// Input tokens of all.
    pub(crate) fn input(&self) -> u64 {
        self.calls.iter().map(|call| call.input.get()).fold(0, u64::saturating_add)
    }

    /// Output tokens of each.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = u64> {
        self.calls.iter().map(|call| call.output.get())
    }

    /// Each request, its prompt named by blocks: prompts begin with the same names as far as they have whole messages in
    /// common. A message's tokens are its share of the text that a token has in the mean.
    pub(crate) fn rows(&self) -> impl Iterator<Item = NamedRow> {
        let first = self.calls.first().map(|call| call.at);
        self.calls.iter().map(move |call| {
            let at = first.map_or(Duration::ZERO, |first| call.at.since(first));
            let row = Row { at, input: call.input, output: call.output };
            let ends = call.messages.iter().map(|&(identity, bytes)| {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "not negative, and less than the bytes"
                )]
                let end = (bytes as f64 / self.token_bytes) as u64;
                (identity, end.min(call.input.get()))
            });
            NamedRow { row, block_tokens: BLOCK, names: block_names(ends, BLOCK), priority: 0 }
        })
    }
}

/// How own servers served a route, as the gateway saw it.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// By the upstream's name: all that it served while it served the route, of whichever route. Those have tokens whose
    /// times tell what they took.
    pub(crate) upstreams: BTreeMap<String, Vec<Seen>>,
    /// Attempts of the route that did not complete, or whose usage was not told: they only took part in the load.
    pub(crate) unknown: u64,
    /// The same of those whose prompts were in part read from a cache.
    pub(crate) cached: u64,
}

impl Served {
    /// The attempts of a route in a period.
    ///
    /// # Errors
    /// If the journal cannot be read, or nothing is in it.
    pub(crate) fn read(config: &Config, route: &str, period: Period) -> anyhow::Result<Self> {
        let data = DataDir::open(&config.data_dir)?;
        let (mut all, mut served) = (BTreeMap::<String, Vec<Seen>>::new(), BTreeSet::new());
        let (mut routes, mut told) = (BTreeSet::new(), Self::default());
        let start = period.start.unwrap_or(UnixTime::from_nanos(0));
        data.each_exchange(period, |exchange| {
            let own = &exchange.admission.labels.route;
            // Derived routes go by the names that were given to them since.
            let own = config.settings.route_names.get(own).unwrap_or(own);
            if !routes.contains(own) {
                routes.insert(own.clone());
            }
            for attempt in &exchange.attempts {
                let upstream = &attempt.dispatch.upstream;
                let tokens = if own == route {
                    if !served.contains(upstream) {
                        served.insert(upstream.clone());
                    }
                    told.tokens(attempt)
                } else {
                    None
                };
                let seconds = |at: UnixTime| at.since(start).as_secs_f64();
                let end = attempt.end.last_token_at.unwrap_or(attempt.end.at);
                all.entry(upstream.clone()).or_default().push(Seen {
                    start: seconds(attempt.dispatch.at),
                    first: attempt.end.first_token_at.map(seconds),
                    end: seconds(end),
                    tokens,
                });
            }
        })?;
        if served.is_empty() {
            let routes: Vec<String> = routes.into_iter().collect();
            bail!(
                "the ledger has nothing of route `{route}` in that period; its routes then: {}",
                if routes.is_empty() { "none".to_owned() } else { routes.join(", ") }
            );
        }
        all.retain(|upstream, _| served.contains(upstream));
        Ok(Self { upstreams: all, ..told })
    }

    /// Tokens of prompt and reply of an attempt that tells what they took.
    fn tokens(&mut self, attempt: &Attempt) -> Option<(u64, u64)> {
        let metered = &attempt.end.metered;
        let usage = &metered.usage;
        let told = metered.source == UsageSource::Reported && attempt.end.end == End::Complete;
        let counts = (usage.input(), usage.output());
        if !told || counts.0 == 0 || counts.1 == 0 {
            self.unknown += 1;
            return None;
        }
        if usage.tokens.iter().any(|(class, count)| class.is_cache_read() && count.get() > 0) {
            self.cached += 1;
            return None;
        }
        Some(counts)
    }
}
