//! What a seed means: how large its world is and what goes wrong in it.

use workload::Random;

/// Milliseconds in the simulation's nanoseconds.
pub(crate) const MS: u64 = 1_000_000;

/// How a world is drawn. Each seed has a random subset of the faults, so that faults also meet in
/// pairs that a world with all of them would hide.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) exchanges: usize,
    /// Mean time between arrivals.
    pub(crate) gap: u64,
    /// Most bytes of a chunk.
    pub(crate) chunk: usize,
    /// Most time between chunks.
    pub(crate) pace: u64,
    /// Whether the journal acknowledges only what is synced.
    pub(crate) sync_each: bool,
    pub(crate) segment_bytes: u64,
    /// Most time that a group waits to be appended.
    pub(crate) append: u64,
    /// Time between syncs.
    pub(crate) sync: u64,
    pub(crate) wire: WireFaults,
    /// Most attempts of an exchange, and most time between two.
    pub(crate) attempts: u32,
    pub(crate) wait: u64,
    pub(crate) price_change: bool,
    pub(crate) clock_steps: bool,
    pub(crate) client_leaves: f64,
    /// Kills and power cuts at any moment.
    pub(crate) kills: u64,
    /// Share of deaths that are power cuts.
    pub(crate) power_cuts: f64,
    /// Deaths within a call of the storage.
    pub(crate) crash_calls: u64,
    /// Probability of each for one append or sync.
    pub(crate) full_disk: f64,
    pub(crate) failed_sync: f64,
    pub(crate) failed_cut: f64,
    /// A sync that says it was done and was not.
    pub(crate) lost_sync: f64,
    /// Chance, at each start, that the cost of an hour changes.
    pub(crate) rate_change: f64,
    /// How often the warehouse is asked on the way, and what it leaves unprojected.
    pub(crate) questions: u64,
    pub(crate) most_unprojected: u64,
}

/// What upstreams do wrong, each with its probability.
#[derive(Debug, Clone)]
pub(crate) struct WireFaults {
    pub(crate) reset: f64,
    pub(crate) stall: f64,
    pub(crate) early_end: f64,
    pub(crate) no_usage: f64,
    pub(crate) repeated_usage: f64,
    pub(crate) running_usage: f64,
    pub(crate) refusal: f64,
    pub(crate) server_error: f64,
    pub(crate) html: f64,
    pub(crate) error_event: f64,
    pub(crate) unreachable: f64,
    pub(crate) odd_lines: f64,
}

impl Plan {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let exchanges = match random.below(8) {
            0 => 3 + random.index(28),
            _ => 3 + random.index(10),
        };
        let mut some = |probability: f64| if random.chance(0.35) { probability } else { 0.0 };
        let wire = WireFaults {
            reset: some(0.25),
            stall: some(0.15),
            early_end: some(0.15),
            no_usage: some(0.3),
            repeated_usage: some(0.4),
            running_usage: some(0.4),
            refusal: some(0.25),
            server_error: some(0.15),
            html: some(0.15),
            error_event: some(0.2),
            unreachable: some(0.15),
            odd_lines: some(0.5),
        };
        let client_leaves = some(0.3);
        let (full_disk, failed_sync, failed_cut) = (some(0.2), some(0.05), some(0.3));
        let lost_sync = if random.chance(0.15) { 0.2 } else { 0.0 };
        let pick = |random: &mut Random, from: &[u64]| from[random.index(from.len())];
        Self {
            exchanges,
            gap: pick(random, &[0, MS, 5 * MS, 50 * MS]),
            chunk: [1, 7, 60, 400, 4000][random.index(5)],
            pace: pick(random, &[0, MS, 10 * MS]),
            sync_each: random.chance(0.4),
            segment_bytes: pick(random, &[1, 1 << 10, 8 << 10, 64 << 10]),
            append: pick(random, &[0, MS / 10, 5 * MS, 700 * MS]),
            sync: pick(random, &[2 * MS, 10 * MS, 100 * MS]),
            wire,
            attempts: [1, 1, 2, 3][random.index(4)],
            wait: pick(random, &[0, 5 * MS, 100 * MS]),
            price_change: random.chance(0.6),
            clock_steps: random.chance(0.3),
            client_leaves,
            kills: if lost_sync > 0.0 || random.chance(0.3) { 1 + random.below(3) } else { 0 },
            power_cuts: if lost_sync > 0.0 { 1.0 } else { [0.0, 0.5, 1.0][random.index(3)] },
            crash_calls: if random.chance(0.4) { 1 + random.below(2) } else { 0 },
            full_disk,
            failed_sync,
            failed_cut,
            lost_sync,
            rate_change: [0.0, 0.5][random.index(2)],
            questions: random.below(3),
            most_unprojected: pick(random, &[0, 1, 500, 4_000, u64::MAX]),
        }
    }
}

/// A fault planted in the simulation's own gateway, to show that a checker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// An exchange that a dead gateway left open is never settled.
    ForgetLost,
    /// The settlement of an exchange is written though its admission failed.
    SettleUnadmitted,
    /// A client that leaves after the settlement settles again.
    SettleTwice,
    /// What is shown live is not what is written.
    LiveDiffers,
    /// The price of the moment of the end is charged.
    PriceAtEnd,
    /// A charge has one token too many.
    OneTokenMore,
    /// A price row counts as written when it is handed over, though the disk may be full.
    RowKnownEarly,
    /// The last bytes do not wait for the settlement.
    ReleaseEarly,
    /// An append counts as a sync.
    AppendIsSync,
    /// The request does not wait for its admission.
    SendEarly,
    /// The usage chunk stays in the stream.
    KeepUsageChunk,
    /// What was not reported counts as nothing.
    EstimateZero,
    /// A stream that was cut counts as complete.
    CutIsComplete,
    /// A bit that flipped on the disk is not looked for: the flip is taken for sound.
    BlindToFlips,
    /// The idle time of an upstream that is paid by the hour is left out.
    IdleForgotten,
    /// The warehouse counts an exchange twice.
    RowTwice,
}

impl Mutant {
    /// All of them, each with the check that must see it.
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::ForgetLost, "SIM-1"),
        (Self::SettleUnadmitted, "SIM-1"),
        (Self::SettleTwice, "SIM-1"),
        (Self::LiveDiffers, "SIM-2"),
        (Self::PriceAtEnd, "SIM-3"),
        (Self::OneTokenMore, "SIM-3"),
        (Self::RowKnownEarly, "SIM-4"),
        (Self::ReleaseEarly, "SIM-5"),
        (Self::AppendIsSync, "SIM-5"),
        (Self::SendEarly, "SIM-6"),
        (Self::KeepUsageChunk, "SIM-7"),
        (Self::EstimateZero, "SIM-8"),
        (Self::BlindToFlips, "SIM-9"),
        (Self::CutIsComplete, "SIM-10"),
        (Self::IdleForgotten, "SIM-11"),
        (Self::RowTwice, "SIM-12"),
    ];
}
