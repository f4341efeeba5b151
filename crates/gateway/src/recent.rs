//! The latest exchanges, for look-ups.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use facts::{Exchange, MessageShape};
use quantity::ExchangeId;

/// Memory for exchanges that can be looked up; older ones are in the journal. An exchange takes about
/// a kilobyte, and more if its prompt has many messages.
const KEPT_BYTES: usize = 32 << 20;
const LEAST_BYTES: usize = 1_024;

/// The latest settled exchanges by id.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_id: HashMap<ExchangeId, Arc<Exchange>>,
    order: VecDeque<ExchangeId>,
    bytes: usize,
}

impl Recent {
    /// No more exchanges than this are ever kept.
    pub const MOST: usize = KEPT_BYTES / LEAST_BYTES;

    /// Keeps an exchange, and forgets the oldest if there are too many.
    pub fn insert(&self, exchange: &Arc<Exchange>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = exchange.admission.exchange;
        if kept.by_id.insert(id, Arc::clone(exchange)).is_none() {
            kept.order.push_back(id);
            kept.bytes += size(exchange);
        }
        while kept.bytes > KEPT_BYTES
            && let Some(oldest) = kept.order.pop_front()
        {
            let forgotten = kept.by_id.remove(&oldest);
            kept.bytes -= forgotten.as_deref().map_or(0, size);
        }
    }

    /// The exchange with this id.
    pub(crate) fn get(&self, id: ExchangeId) -> Option<Arc<Exchange>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.by_id.get(&id).cloned()
    }
}

/// About what an exchange takes in memory, bytes.
fn size(exchange: &Exchange) -> usize {
    let prompt = &exchange.admission.prompt;
    LEAST_BYTES + prompt.messages.len() * size_of::<MessageShape>() + prompt.tools.len() * 64
}
