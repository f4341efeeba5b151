//! The closed form of a replica for any lengths of calls, worked out at a few and laid between them.

use std::sync::OnceLock;

use crate::capacity::Candidate;
use crate::lane::GpuOffer;
use crate::scenario::Slo;

/// The closed form at lengths whose ratio is [`STEP`]; in between its logarithm is linear in theirs. It is worked out where it
/// is first asked for: the same whoever asks.
pub(crate) struct Grid<'a> {
    candidate: &'a Candidate,
    slo: &'a Slo,
    places: Vec<OnceLock<Result<f64, String>>>,
}

/// Between these the closed form changes by a few percent.
const STEP: f64 = 1.1;
/// Up to 1e8 tokens, more than a call may have.
const SIDE: usize = 195;

impl<'a> Grid<'a> {
    pub(crate) fn new(offer: &'a GpuOffer, slo: &'a Slo) -> Self {
        let places = std::iter::repeat_with(OnceLock::new).take(SIDE * SIDE).collect();
        Self { candidate: &offer.candidate, slo, places }
    }

    /// Calls a second of these lengths, input that is computed and output.
    pub(crate) fn rate(&self, lengths: (f64, f64)) -> Result<f64, String> {
        let [(row, down), (column, right)] = [lengths.0, lengths.1].map(place);
        let at = |row: usize, column: usize| self.at(row, column);
        let (above, below) = (
            between(at(row, column)?, at(row, column + 1)?, right),
            between(at(row + 1, column)?, at(row + 1, column + 1)?, right),
        );
        Ok(libm::exp(between(above, below, down)))
    }

    /// The logarithm of the rate.
    fn at(&self, row: usize, column: usize) -> Result<f64, String> {
        let found = self.places[row * SIDE + column].get_or_init(|| {
            let length = |step: usize| libm::pow(STEP, step as f64);
            let rate = self.candidate.closed_form((length(row), length(column)), self.slo);
            rate.map(libm::log).map_err(|error| error.to_string())
        });
        found.clone()
    }
}

fn between(one: f64, other: f64, part: f64) -> f64 {
    one + (other - one) * part
}

/// The place below a length, and how far it is to the next.
fn place(length: f64) -> (usize, f64) {
    let steps = libm::log(length.max(1.0)) / libm::log(STEP);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 0")]
    let whole = (steps as usize).min(SIDE - 2);
    (whole, (steps - whole as f64).min(1.0))
}
