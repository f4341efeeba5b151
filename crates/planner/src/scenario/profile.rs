//! How demand goes through the day, the week and the year.

use super::var::Kind;
use crate::read::{Entry, ScenarioError, Section};

/// Hours of a week, from Monday 0:00.
pub const HOURS_OF_WEEK: usize = 168;

/// Weights by hour, weekday and month, each with a mean of 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    hours: [f64; 24],
    weekdays: [f64; 7],
    season: [f64; 12],
}

impl Default for Profile {
    fn default() -> Self {
        Self { hours: [1.0; 24], weekdays: [1.0; 7], season: [1.0; 12] }
    }
}

fn with_mean_one<const N: usize>(weights: [f64; N]) -> [f64; N] {
    let mean = weights.iter().sum::<f64>() / N as f64;
    weights.map(|weight| weight / mean)
}

impl Profile {
    /// A profile of weights, of which only the ratios matter; each list needs one above 0.
    #[must_use]
    pub fn new(hours: [f64; 24], weekdays: [f64; 7], season: [f64; 12]) -> Self {
        Self {
            hours: with_mean_one(hours),
            weekdays: with_mean_one(weekdays),
            season: with_mean_one(season),
        }
    }

    /// A day that swings between its floor and so many times that, highest at an hour.
    #[must_use]
    pub fn day(peak_hour: f64, peak_to_floor: f64) -> [f64; 24] {
        std::array::from_fn(|hour| {
            let turn = (hour as f64 - peak_hour) / 24.0 * std::f64::consts::TAU;
            1.0 + (peak_to_floor - 1.0) * f64::midpoint(1.0, libm::cos(turn))
        })
    }

    pub(super) fn read(section: &mut Section<'_>) -> Result<Self, ScenarioError> {
        let hours = section.take("hours").map(|entry| day(&entry)).transpose()?;
        let weekdays = section.take("weekdays").map(|entry| weights::<7>(&entry)).transpose()?;
        let season = section.take("season").map(|entry| weights::<12>(&entry)).transpose()?;
        Ok(Self::new(
            hours.unwrap_or([1.0; 24]),
            weekdays.unwrap_or([1.0; 7]),
            season.unwrap_or([1.0; 12]),
        ))
    }

    /// Demand of each hour of the week, of its mean.
    #[must_use]
    pub fn week(&self) -> [f64; HOURS_OF_WEEK] {
        std::array::from_fn(|hour| self.hours[hour % 24] * self.weekdays[hour / 24])
    }

    /// The highest hour of the week, of the mean.
    #[must_use]
    pub fn peak(&self) -> f64 {
        self.week().into_iter().fold(0.0, f64::max)
    }

    /// The lowest hour of the week, of the mean.
    #[must_use]
    pub fn floor(&self) -> f64 {
        self.week().into_iter().fold(f64::INFINITY, f64::min)
    }

    /// Demand of a month of the year, January being 0, of the year's mean.
    #[must_use]
    pub fn month(&self, month: usize) -> f64 {
        self.season[month % 12]
    }
}

/// 24 weights, or where the peak is and how high.
fn day(entry: &Entry<'_>) -> Result<[f64; 24], ScenarioError> {
    if !entry.is_table() {
        return weights(entry);
    }
    let mut section = entry.table()?;
    let mut part = |key: &str, bounds| match section.take(key) {
        Some(part) => part.scalar(Kind::Factor, bounds),
        None => Err(entry.wrong("24 numbers, or { peak_hour = 15, peak_to_floor = 5 }")),
    };
    let hours = Profile::day(part("peak_hour", (0.0, 24.0))?, part("peak_to_floor", (1.0, 1e6))?);
    section.finish(&["peak_hour", "peak_to_floor"])?;
    Ok(hours)
}

fn weights<const N: usize>(entry: &Entry<'_>) -> Result<[f64; N], ScenarioError> {
    let all = entry.list().into_iter().map(|one| one.scalar(Kind::Factor, (0.0, 1e9)));
    let all = all.collect::<Result<Vec<_>, _>>()?;
    let wrong = || entry.wrong(&format!("{N} numbers, at least one of them above 0"));
    let all: [f64; N] = all.try_into().map_err(|_| wrong())?;
    if all.iter().sum::<f64>() > 0.0 { Ok(all) } else { Err(wrong()) }
}
