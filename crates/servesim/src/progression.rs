//! Times of steps that grow evenly: the closed forms that let the simulator skip.

/// Steps that take `first`, `first + rise`, `first + 2*rise`, ... picoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progression {
    pub(crate) first: u64,
    pub(crate) rise: u64,
}

/// So many steps are skipped at a time at most; a sum of so many cannot overflow.
pub(crate) const MOST_STEPS: u64 = 1 << 12;
/// The longest step that is taken, in picoseconds: 18 minutes.
pub(crate) const LONGEST_STEP: u64 = 1 << 50;
/// A step takes at most so much longer than the one before, in picoseconds: a quarter of a second.
pub(crate) const STEEPEST_RISE: u64 = 1 << 38;

impl Progression {
    /// Whether sums of it are within what `u64` holds.
    #[inline]
    pub(crate) const fn is_tame(self) -> bool {
        self.first <= LONGEST_STEP && self.rise <= STEEPEST_RISE
    }

    /// What the first `steps` take together.
    #[inline]
    pub(crate) const fn sum(self, steps: u64) -> u64 {
        debug_assert!(steps <= MOST_STEPS);
        // One of the two factors is even.
        let rises = if steps.is_multiple_of(2) {
            steps / 2 * steps.saturating_sub(1)
        } else {
            steps.saturating_sub(1) / 2 * steps
        };
        steps * self.first + rises * self.rise
    }

    /// The same of a quantity that may be larger than times are.
    #[inline]
    pub(crate) fn sum_wide(self, steps: u64) -> u128 {
        // At most `MOST_STEPS`, so that a u64 counts the rises.
        let rises = steps * steps.saturating_sub(1) / 2;
        u128::from(steps) * u128::from(self.first) + u128::from(rises) * u128::from(self.rise)
    }

    /// The fewest steps, at least one, that take at least `time` together, if `most` do.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a guess that is put right with integers"
    )]
    pub(crate) fn steps_to(self, time: u64, most: u64) -> Option<u64> {
        if self.sum(most) < time {
            return None;
        }
        // The root of `rise/2 k^2 + (first - rise/2) k = time`, in the form that cancels nothing.
        let (half, wanted) = (self.rise as f64 / 2.0, time as f64);
        let slope = self.first as f64 - half;
        let root = 2.0 * wanted / (slope + (slope * slope + 4.0 * half * wanted).sqrt());
        let mut steps = (root as u64).clamp(1, most);
        while steps > 1 && self.sum(steps - 1) >= time {
            steps -= 1;
        }
        while self.sum(steps) < time {
            steps += 1;
        }
        Some(steps)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_sum_is_what_adding_up_gives(
            first in 0_u64..1 << 40, rise in 0_u64..1 << 30, steps in 0_u64..200,
        ) {
            let times = Progression { first, rise };
            prop_assert_eq!(times.sum(steps), (0..steps).map(|step| first + rise * step).sum::<u64>());
        }

        #[test]
        fn the_fewest_steps_reach_the_time_and_one_less_does_not(
            first in prop_oneof![0_u64..3, 0_u64..1 << 50],
            rise in prop_oneof![Just(0_u64), 0_u64..3, 0_u64..=STEEPEST_RISE],
            most in 1_u64..=MOST_STEPS, time in prop_oneof![0_u64..5, 0_u64..1 << 62],
        ) {
            let times = Progression { first, rise };
            let (steps, next) = match times.steps_to(time, most) {
                Some(steps) => (steps - 1, steps),
                None => (most, MOST_STEPS + 1),
            };
            prop_assert!(steps == 0 || times.sum(steps) < time);
            prop_assert!(next > MOST_STEPS || (next <= most && times.sum(next) >= time));
        }
    }
}
