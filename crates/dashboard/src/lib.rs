//! The one read-only page that `serve` shows at `/farthing/`, and the JSON it lives on.
//!
//! Pure: [`Dashboard::settled`] takes note of exchanges, [`Dashboard::respond`] answers a path. The
//! page loads nothing from elsewhere, runs no inline script, and sets labels as text only.

mod view;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use facts::{Dimension, Exchange, Gap, PriceRecord, Query, Rollup};
use quantity::UnixTime;
use report::BookLine;
use report::json::Json;

/// Exchanges that the live list reaches back.
const RECENT: usize = 200;

/// Routes, and models, that are told apart: clients may invent any number of them.
const GROUPS: usize = 10_000;

/// What the page shows, kept up to date one settled exchange at a time.
#[derive(Debug)]
pub struct Dashboard {
    book: BookLine,
    /// Routes that were recorded before they had these names.
    route_names: BTreeMap<String, String>,
    routes: Rollup,
    models: Rollup,
    /// Newest first.
    recent: VecDeque<Json>,
    /// What this process could not record so far.
    gap: Option<Gap>,
    /// Prices that are going to change, in words.
    coming: Vec<String>,
}

/// A response to a `GET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its `content-type`.
    pub content_type: &'static str,
    /// Its body.
    pub body: Cow<'static, str>,
    /// Headers to send with it, beside its type and length.
    pub headers: &'static [(&'static str, &'static str)],
}

/// Nothing from elsewhere, nothing inline, nothing kept: figures change and belong to their owner.
const HEADERS: &[(&str, &str)] = &[
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("cache-control", "no-store"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
];

impl Dashboard {
    /// An empty page that names this price book.
    #[must_use]
    pub fn new(book: BookLine) -> Self {
        let [routes, models] = Self::queries().map(|query| Rollup::new(query).keeping(GROUPS));
        let recent = VecDeque::with_capacity(RECENT);
        Self {
            book,
            route_names: BTreeMap::new(),
            routes,
            models,
            recent,
            gap: None,
            coming: Vec::new(),
        }
    }

    /// What it keeps answered.
    #[must_use]
    pub fn queries() -> [Query; 2] {
        [Dimension::Route, Dimension::Model].map(|by| Query { by: vec![by], ..Query::default() })
    }

    /// Goes on from what was counted before, of each of the [`queries`](Self::queries).
    #[must_use]
    pub fn with_counted(mut self, [routes, models]: [Rollup; 2]) -> Self {
        (self.routes, self.models) = (routes.keeping(GROUPS), models.keeping(GROUPS));
        self
    }

    /// Shows routes under names that were given to them later.
    #[must_use]
    pub fn with_route_names(mut self, names: BTreeMap<String, String>) -> Self {
        self.route_names = names;
        self
    }

    /// Takes note of a price.
    pub fn price(&mut self, price: &PriceRecord) {
        self.routes.price(price);
        self.models.price(price);
    }

    /// Takes note of a gap in the journal.
    pub fn gap(&mut self, gap: &Gap) {
        self.routes.gap(gap);
    }

    /// Shows this besides: all that the running process could not record so far.
    pub fn set_gap(&mut self, gap: Option<Gap>) {
        self.gap = gap;
    }

    /// Says besides which prices are going to change.
    pub fn set_coming(&mut self, coming: Vec<String>) {
        self.coming = coming;
    }

    /// Takes note of a settled exchange.
    pub fn settled(&mut self, exchange: &Exchange) {
        self.routes.add(exchange);
        self.models.add(exchange);
        self.list(exchange);
    }

    /// Lists a settled exchange that is counted already.
    pub fn list(&mut self, exchange: &Exchange) {
        if exchange.admission.api.only_shows() {
            return;
        }
        self.recent.truncate(RECENT - 1);
        self.recent.push_front(view::recent_row(exchange));
    }

    /// The response for a path, its query left off; `None` if the page has no such part.
    #[must_use]
    pub fn respond(&self, path: &str, now: UnixTime) -> Option<Page> {
        let (content_type, body) = match path {
            "/farthing" | "/farthing/" => {
                ("text/html; charset=utf-8", include_str!("page/index.html").into())
            }
            "/farthing/app.js" => {
                ("text/javascript; charset=utf-8", include_str!("page/app.js").into())
            }
            "/farthing/style.css" => {
                let own = include_str!("page/style.css");
                ("text/css; charset=utf-8", [report::page::STYLE, own].concat().into())
            }
            "/farthing/api/bill" => {
                let mut routes = self.routes.answer(now);
                routes.gaps.extend(self.gap.clone());
                let routes = routes.renamed(&Dimension::Route, &self.route_names);
                let models = self.models.answer(now);
                let bill = view::bill(&routes, &models, &self.book, &self.coming, now);
                ("application/json", bill.line().into())
            }
            "/farthing/api/recent" => {
                let recent = view::recent(self.recent.iter().cloned(), now);
                ("application/json", recent.line().into())
            }
            _ => return None,
        };
        Some(Page { content_type, body, headers: HEADERS })
    }
}
