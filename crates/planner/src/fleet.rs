//! Whole replicas for demand through the week, with what production needs beside the load.

use crate::scenario::{Case, HOURS_OF_WEEK, Profile, Var};
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
        Self::at_least(1, case, schedule, week, highest)
    }

    /// The same with so many replicas for load at least.
    #[must_use]
    pub fn at_least(
        least: u32,
        case: &Case,
        schedule: Schedule,
        week: &[f64; HOURS_OF_WEEK],
        highest: f64,
    ) -> Self {
        let rules = Rules { least, ..Rules::new(case, schedule) };
        let peak = week.iter().copied().fold(0.0, f64::max);
        let for_load = rules.for_load(peak, highest);
        let most = rules.with_failures(for_load);
        let hours = week.map(|per_second| Hour {
            per_second,
            replicas: rules.serving(per_second, highest, most),
        });
        let starts = |hour: usize| {
            let next = hours[(hour + 1) % HOURS_OF_WEEK].replicas;
            f64::from(next.saturating_sub(hours[hour].replicas))
        };
        let running = hours.iter().map(|hour| f64::from(hour.replicas)).sum();
        let starts = (0..HOURS_OF_WEEK).map(starts).sum();
        let paid = rules.paid(most, running, starts);
        let for_deploys = rules.for_deploys(most);
        Self { for_load, for_failures: most - for_load, for_deploys, week: hours, paid }
    }

    /// The most replicas that serve at a time, without those of a deploy.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.for_load + self.for_failures
    }
}

/// How replicas are counted in a case.
struct Rules {
    schedule: Schedule,
    /// Replicas for load at least.
    least: u32,
    headroom: f64,
    spare: u32,
    zones: u32,
    surge: f64,
    cold_start_h: f64,
    /// Hours a month that the replicas of a deploy are paid.
    deploying: f64,
    /// What a replica is paid for, with its starts after interruptions.
    interrupted: f64,
}

impl Rules {
    fn new(case: &Case, schedule: Schedule) -> Self {
        let cold_start_h = case.at(Var::ColdStart) / 3600.0;
        let surge = case.at(Var::Surge);
        // One wave after another, each of which starts its replicas anew.
        let waves = (1.0 / surge).ceil();
        Self {
            schedule,
            least: 1,
            headroom: 1.0 + case.at(Var::Headroom),
            spare: whole(case.at(Var::Spare).round()),
            zones: whole(case.at(Var::Zones).round()).max(1),
            surge,
            cold_start_h,
            deploying: case.at(Var::Deploys) * waves * cold_start_h,
            // A replica that was interrupted is paid while it starts again.
            interrupted: 1.0 + case.at(Var::Interruptions) * cold_start_h / HOURS_PER_MONTH,
        }
    }

    fn for_load(&self, per_second: f64, highest: f64) -> u32 {
        whole((per_second * self.headroom / highest).ceil()).max(self.least)
    }

    fn with_failures(&self, load: u32) -> u32 {
        let spare = load.saturating_add(self.spare);
        match self.zones {
            1 => spare,
            // What is left when a zone fails must carry all of it.
            zones => spare.max(load.div_ceil(zones - 1).saturating_mul(zones)),
        }
    }

    /// Replicas in an hour, where the peak takes so many.
    fn serving(&self, per_second: f64, highest: f64, most: u32) -> u32 {
        match self.schedule {
            // Nobody waits for what nobody asks for.
            Schedule::Autoscaled if per_second <= 0.0 => 0,
            Schedule::Autoscaled => self.with_failures(self.for_load(per_second, highest)),
            Schedule::Owned | Schedule::Fixed => most,
        }
    }

    fn for_deploys(&self, most: u32) -> u32 {
        whole((f64::from(most) * self.surge).ceil())
    }

    /// Replicas paid for on the mean, of those that run in all hours of a week together, and of those that start in it before
    /// an hour begins. Both are whole, so that no order of summing them matters.
    fn paid(&self, most: u32, running: f64, starts: f64) -> f64 {
        let mean = (running + starts * self.cold_start_h.min(1.0)) / HOURS_OF_WEEK as f64;
        let for_deploys = self.for_deploys(most);
        let deploys = match self.schedule {
            Schedule::Owned => f64::from(for_deploys),
            Schedule::Fixed | Schedule::Autoscaled if for_deploys == 0 => 0.0,
            Schedule::Fixed | Schedule::Autoscaled => {
                f64::from(for_deploys) * (self.deploying / HOURS_PER_MONTH).min(1.0)
            }
        };
        (mean + deploys) * self.interrupted
    }
}

/// A week by its distinct hours, so that a fleet that is not looked at hour by hour is counted quickly.
#[derive(Debug, Clone)]
pub(crate) struct Loads {
    /// The distinct hours, of the mean, and how many there are of each.
    distinct: Vec<(f64, f64)>,
    /// Where an hour is followed by a busier one: both, and how often.
    rises: Vec<(usize, usize, f64)>,
    peak: f64,
}

impl Loads {
    pub(crate) fn of(profile: &Profile) -> Self {
        let week = profile.week();
        let mut distinct: Vec<(f64, f64)> = Vec::new();
        let places = week.map(|load| {
            let known = distinct.iter().position(|(known, _)| known.total_cmp(&load).is_eq());
            let place = known.unwrap_or(distinct.len());
            match known {
                Some(place) => distinct[place].1 += 1.0,
                None => distinct.push((load, 1.0)),
            }
            place
        });
        let mut rises: Vec<(usize, usize, f64)> = Vec::new();
        for hour in 0..HOURS_OF_WEEK {
            let (from, to) = (places[hour], places[(hour + 1) % HOURS_OF_WEEK]);
            if distinct[to].0 > distinct[from].0 {
                match rises.iter_mut().find(|rise| (rise.0, rise.1) == (from, to)) {
                    Some(rise) => rise.2 += 1.0,
                    None => rises.push((from, to, 1.0)),
                }
            }
        }
        Self { distinct, rises, peak: profile.peak() }
    }

    /// What [`Fleet::of`] finds is paid for, where an hour of mean load brings so many calls a second.
    pub(crate) fn paid(&self, case: &Case, schedule: Schedule, mean: f64, highest: f64) -> f64 {
        let rules = Rules::new(case, schedule);
        let most = rules.with_failures(rules.for_load(self.peak * mean, highest));
        if schedule != Schedule::Autoscaled {
            return rules.paid(most, f64::from(most) * HOURS_OF_WEEK as f64, 0.0);
        }
        let mut replicas = [0.0; HOURS_OF_WEEK];
        let mut running = 0.0;
        for (place, (load, hours)) in replicas.iter_mut().zip(&self.distinct) {
            *place = f64::from(rules.serving(load * mean, highest, most));
            running += *place * hours;
        }
        let starts = self.rises.iter().map(|(from, to, often)| {
            // A busier hour never has fewer.
            (replicas[*to] - replicas[*from]) * often
        });
        rules.paid(most, running, starts.sum())
    }
}

fn whole(count: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let whole = count as u32;
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn case(of: &[(Var, f64)]) -> Case {
        let mut nothing = |_: Var, _: &crate::scenario::Recorded| Err(String::new());
        let text =
            "[demand]\ntasks = \"1/day\"\n[tokens]\ninput = 1\nanswer = 1\n[api]\nmodels = \"m\"\n";
        let scenario = crate::Scenario::read(text, &mut nothing).unwrap();
        of.iter().fold(scenario.likely(), |case, (var, value)| case.with(*var, *value))
    }

    proptest! {
        #[test]
        fn a_week_by_its_distinct_hours_is_paid_as_one_hour_by_hour(
            hours in prop::array::uniform24(0_u8..4),
            weekdays in prop::array::uniform7(1_u8..4),
            zones in 1.0..4.0_f64,
            surge in 0.0..1.0_f64,
            (mean, highest) in (0.0..40.0_f64, 0.1..3.0_f64),
            schedule in prop::sample::select(vec![Schedule::Owned, Schedule::Fixed, Schedule::Autoscaled]),
        ) {
            let mut hours = hours.map(f64::from);
            hours[3] = 5.0;
            let profile = Profile::new(hours, weekdays.map(f64::from), [1.0; 12]);
            let case = case(&[
                (Var::Zones, zones), (Var::Surge, surge), (Var::ColdStart, 900.0), (Var::Interruptions, 3.0),
            ]);
            let week = profile.week().map(|load| load * mean);
            let fleet = Fleet::of(&case, schedule, &week, highest);
            prop_assert_eq!(Loads::of(&profile).paid(&case, schedule, mean, highest), fleet.paid);
        }
    }
}
