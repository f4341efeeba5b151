//! The latest exchanges, for look-ups.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use facts::Exchange;
use quantity::{ExchangeId, Fingerprint};

/// Exchanges that can be looked up; older ones are in the journal. About 1 KB each.
const KEPT: usize = 16_384;

/// The latest settled exchanges by id.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_id: HashMap<ExchangeId, Arc<Exchange>>,
    order: VecDeque<ExchangeId>,
}

impl Recent {
    /// Keeps an exchange, and forgets the oldest if there are too many.
    pub fn insert(&self, exchange: &Arc<Exchange>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = exchange.admission.exchange;
        if kept.by_id.insert(id, Arc::clone(exchange)).is_none() {
            kept.order.push_back(id);
        }
        if kept.order.len() > KEPT
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.by_id.remove(&oldest);
        }
    }

    /// The exchange with this id, if that caller made it. Another caller is told nothing, not even
    /// that it exists.
    pub(crate) fn of(&self, id: ExchangeId, caller: Option<Fingerprint>) -> Option<Arc<Exchange>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.by_id.get(&id).filter(|exchange| exchange.admission.caller == caller).cloned()
    }
}
