//! The simulator against what is known of it otherwise.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod agree;
mod blocks;
mod fleet;
mod laws;
mod live;
mod plain_fleet;
mod plain_pools;
mod pools;
mod reference;
mod search;
mod setting;
