//! Whole replicas for demand through the week, with what production needs beside the load.

use crate::scenario::{Case, HOURS_OF_WEEK, Var};
use crate::unit::HOURS_PER_MONTH;

/// How replicas are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// As many as the peak needs, and paid all hours: those for a deploy too.
    Owned,
    /// As many as the peak needs, all hours; more during a deploy are paid for as long as it takes.
    Fixed,
    /// As many as each hour needs.
    Autoscaled,
}

/// An hour of the week.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hour {
    /// Calls a second, those made again included.
    pub per_second: f64,
    /// Replicas that serve them.
    pub replicas: u32,
}

/// Replicas of a setup.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    /// Replicas that the peak hour's load takes, with its headroom.
    pub for_load: u32,
    /// More of them, so that one that fails, or a zone, is not missed.
    pub for_failures: u32,
    /// More of them while a new version is rolled out.
    pub for_deploys: u32,
    /// Each hour of the week.
    pub week: [Hour; HOURS_OF_WEEK],
    /// Replicas paid for on the mean over all hours: with those that start, that deploys add and that interruptions cost.
    pub paid: f64,
}

impl Fleet {
    /// The smallest fleet for calls a second by the hour of the week, where a replica serves so many within the SLO.
    #[must_use]
    pub fn of(case: &Case, schedule: Schedule, week: &[f64; HOURS_OF_WEEK], highest: f64) -> Self {
        let headroom = 1.0 + case.at(Var::Headroom);
        let load = |per_second: f64| whole((per_second * headroom / highest).ceil()).max(1);
        let with_failures = |load: u32| {
            let spare = load.saturating_add(whole(case.at(Var::Spare).round()));
            let zones = whole(case.at(Var::Zones).round()).max(1);
            match zones {
                1 => spare,
                // What is left when a zone fails must carry all of it.
                zones => spare.max(load.div_ceil(zones - 1).saturating_mul(zones)),
            }
        };
        let peak = week.iter().copied().fold(0.0, f64::max);
        let for_load = load(peak);
        let most = with_failures(for_load);
        let needed = |hour: usize| match schedule {
            // Nobody waits for what nobody asks for.
            Schedule::Autoscaled if week[hour] <= 0.0 => 0,
            Schedule::Autoscaled => with_failures(load(week[hour])),
            Schedule::Owned | Schedule::Fixed => most,
        };
        let hours =
            std::array::from_fn(|hour| Hour { per_second: week[hour], replicas: needed(hour) });
        let cold_start_h = case.at(Var::ColdStart) / 3600.0;
        let for_deploys = whole((f64::from(most) * case.at(Var::Surge)).ceil());
        // Replicas of the next hour start before it begins.
        let starting = |hour: usize| {
            let next = hours_at(&hours, hour + 1).replicas;
            f64::from(next.saturating_sub(hours_at(&hours, hour).replicas)) * cold_start_h.min(1.0)
        };
        let running: f64 = hours.iter().map(|hour| f64::from(hour.replicas)).sum();
        let starting: f64 = (0..HOURS_OF_WEEK).map(starting).sum();
        let mean = (running + starting) / HOURS_OF_WEEK as f64;
        let deploys = match schedule {
            Schedule::Owned => f64::from(for_deploys),
            // One wave after another, each of which starts its replicas anew.
            Schedule::Fixed | Schedule::Autoscaled => {
                let waves = (1.0 / case.at(Var::Surge)).ceil();
                let hours = case.at(Var::Deploys) * waves * cold_start_h;
                let share = if for_deploys == 0 { 0.0 } else { (hours / HOURS_PER_MONTH).min(1.0) };
                f64::from(for_deploys) * share
            }
        };
        // A replica that was interrupted is paid while it starts again.
        let interrupted = case.at(Var::Interruptions) * cold_start_h / HOURS_PER_MONTH;
        let paid = (mean + deploys) * (1.0 + interrupted);
        Self { for_load, for_failures: most - for_load, for_deploys, week: hours, paid }
    }

    /// The most replicas that serve at a time, without those of a deploy.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.for_load + self.for_failures
    }
}

fn hours_at(hours: &[Hour; HOURS_OF_WEEK], hour: usize) -> Hour {
    hours[hour % HOURS_OF_WEEK]
}

fn whole(count: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let whole = count as u32;
    whole
}
