//! How far predictions are off.

use std::collections::BTreeMap;

use crate::bands::{Bands, Metric};
use crate::point::{Point, Reason};
use crate::predict::Prediction;

/// Errors of the predictions of one quantity over some points.
#[derive(Debug, Clone, PartialEq)]
pub struct Errors {
    /// `predicted / measured`, in ascending order.
    ratios: Vec<f64>,
    covered: u32,
}

impl Errors {
    /// Points that were measured and predicted.
    #[must_use]
    pub fn points(&self) -> usize {
        self.ratios.len()
    }

    /// The absolute relative error that a share of the points does not exceed; `None` without points.
    #[must_use]
    pub fn at(&self, share: f64) -> Option<f64> {
        let mut all: Vec<f64> = self.ratios.iter().map(|ratio| (ratio - 1.0).abs()).collect();
        all.sort_by(f64::total_cmp);
        pick(&all, share)
    }

    /// The median relative error with its sign: above 0 where predictions are too high.
    #[must_use]
    pub fn bias(&self) -> Option<f64> {
        pick(&self.ratios, 0.5).map(|ratio| ratio - 1.0)
    }

    /// The share of the points that lie within their interval.
    #[must_use]
    pub fn coverage(&self) -> Option<f64> {
        (!self.ratios.is_empty()).then(|| f64::from(self.covered) / self.ratios.len() as f64)
    }

    fn add(&mut self, ratio: f64, covered: bool) {
        let at = self.ratios.partition_point(|own| *own < ratio);
        self.ratios.insert(at, ratio);
        self.covered += u32::from(covered);
    }
}

fn pick(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let index = (last as f64 * share).round() as usize;
    sorted.get(index).copied()
}

/// Errors by what the points are, and why others have none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Summary {
    groups: BTreeMap<(u8, &'static str, String), BTreeMap<Metric, Errors>>,
    refused: BTreeMap<Reason, u32>,
}

impl Summary {
    /// Takes in a point and what was predicted for it.
    pub fn add(&mut self, point: &Point, predicted: &Result<Prediction, Reason>, bands: &Bands) {
        let predicted = match predicted {
            Ok(predicted) => predicted,
            Err(reason) => {
                *self.refused.entry(reason.clone()).or_default() += 1;
                return;
            }
        };
        let mut groups = vec![
            (0, "", "all".to_owned()),
            (1, "kind", predicted.kind.to_string()),
            (2, "regime", predicted.regime.to_string()),
            (3, "accelerator", predicted.accelerator.clone()),
            (4, "engine", predicted.engine.clone()),
            (5, "model", predicted.model.clone()),
        ];
        if !point.source.is_empty() {
            // What one set of measurements says must not be taken for what another does.
            let source: String = point.source.chars().take(38).collect();
            groups.push((6, "source", format!("{source}, {}", predicted.kind)));
        }
        for metric in Metric::ALL {
            let (Some(measured), Some(value)) =
                (point.measured.value(metric), predicted.value(metric))
            else {
                continue;
            };
            let band = bands.of(metric, predicted.kind, predicted.regime, predicted.basis);
            let covered = (value * band.low..=value * band.high).contains(&measured);
            for group in &groups {
                let errors = self.groups.entry(group.clone()).or_default();
                let empty = || Errors { ratios: Vec::new(), covered: 0 };
                errors.entry(metric).or_insert_with(empty).add(value / measured, covered);
            }
        }
    }

    /// Groups in order: what they share, its value, and the errors of each quantity.
    pub fn groups(&self) -> impl Iterator<Item = (&'static str, &str, &BTreeMap<Metric, Errors>)> {
        self.groups.iter().map(|((_, by, name), errors)| (*by, name.as_str(), errors))
    }

    /// Why points were not predicted, the most frequent first, with how many.
    #[must_use]
    pub fn refused(&self) -> Vec<(&Reason, u32)> {
        let mut all: Vec<_> = self.refused.iter().map(|(reason, count)| (reason, *count)).collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        all
    }
}
