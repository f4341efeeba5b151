//! What steps cost, and what is written down of them.

use crate::engine::{Error, Record};
use crate::progression::Progression;
use crate::report::KV_SHARES;
use crate::sequence::NEVER;
use crate::step_time::{Batch, Linear, StepTime};

use super::Replica;

/// Of so many counts of decodes, at most, a replica remembers what a step costs: the count changes little
/// from step to step.
const MOST_COSTS: usize = 256;

/// What a step takes and does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) time: Linear,
    flops: Option<Linear>,
    bytes: Option<Linear>,
}

impl Cost {
    pub(super) fn of(time: &impl StepTime, batch: &Batch) -> Self {
        Self { time: time.step(batch), flops: time.flops(batch), bytes: time.bytes(batch) }
    }
}

impl<T: StepTime> Replica<T> {
    /// What a step of the decodes alone computes and costs.
    pub(super) fn decode_cost(&mut self) -> (Batch, Cost) {
        let count = self.decodes.count;
        let batch = Batch { decodes: count, sampled: count, ..Batch::default() };
        let at = count as usize % MOST_COSTS;
        if self.decode_costs.len() <= at {
            self.decode_costs.resize(at + 1, None);
        }
        let kept = &mut self.decode_costs[at];
        let cost = match *kept {
            Some((decodes, cost)) if decodes == count => cost,
            _ => kept.insert((count, Cost::of(&self.time, &batch))).1,
        };
        (batch, cost)
    }

    pub(super) fn times(&self, batch: &Batch, time: Linear) -> Result<Progression, Error> {
        let times = self.decodes.progression(time);
        if times.is_tame() {
            return Ok(times);
        }
        let &Batch { decodes, prefill_tokens, .. } = batch;
        Err(Error::StepTooLong { decodes, prefill_tokens, ps: times.first.max(times.rise) })
    }

    /// The replica was busy for so long.
    pub(super) fn pass(&mut self, time: u64) -> Result<(), Error> {
        // The last instant means never.
        let now = self.now.checked_add(time).filter(|&now| now < NEVER);
        self.now = now.ok_or(Error::RunTooLong)?;
        Ok(())
    }

    pub(super) fn tell(&mut self, record: &Record, each: &mut impl FnMut(&Record)) {
        self.report.add(record, &self.slo);
        each(record);
    }

    /// The decodes of a step got a token each, so long after the one before.
    pub(super) fn add_gaps(&mut self, step: u64) {
        let mut even = u64::from(self.decodes.count);
        for who in self.late.drain(..) {
            let one = &mut self.all[who as usize];
            // Some were preempted or left since, some stand still again.
            if one.finish != NEVER {
                let last_token = std::mem::replace(&mut one.last_token, NEVER);
                self.report.itl.add(self.now - last_token, 1);
                even -= 1;
            }
        }
        self.report.itl.add(step, even);
    }

    /// Adds up the work of so many steps, of which only the first may have prefills, before the
    /// decodes have advanced.
    pub(super) fn count(&mut self, batch: &Batch, cost: &Cost, steps: u64) {
        let work = &mut self.report.work;
        work.steps += steps;
        work.prefill_tokens += u64::from(batch.prefill_tokens);
        work.decode_tokens += steps * u64::from(batch.decodes);
        let sum = |each: Linear| self.decodes.progression(each).sum_wide(steps);
        work.flops = work.flops.and_then(|all| Some(all + sum(cost.flops?)));
        work.bytes = work.bytes.and_then(|all| Some(all + sum(cost.bytes?)));
    }

    /// Adds up how full the KV cache is over so many steps that need so many more blocks.
    pub(super) fn use_up(&mut self, times: Progression, steps: u64, needed: u64) {
        let before = self.used();
        let last = self.kv_share(before + needed);
        let mut done = 0;
        // Few are so long that they pass from one share to the next.
        while done < steps {
            let share = self.kv_share(before + self.decodes.growth(done + 1));
            let within = if share == last {
                steps
            } else {
                let capacity = u64::from(self.engine.kv_blocks);
                let most = ((share as u64 + 1) * capacity).div_ceil(KV_SHARES as u64);
                self.decodes.steps_within(most - before, steps).0
            };
            self.report.kv_ps[share] += times.sum(within) - times.sum(done);
            done = within;
        }
    }

    /// Blocks that are allocated.
    pub(super) fn used(&self) -> u64 {
        u64::from(self.engine.kv_blocks) - self.free
    }

    pub(super) fn kv_share(&self, used: u64) -> usize {
        let share = (used - 1) * KV_SHARES as u64 / u64::from(self.engine.kv_blocks);
        usize::try_from(share).expect("no more is used than there is")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::report::Slo;

    struct ByDecodes;

    impl StepTime for ByDecodes {
        fn step(&self, batch: &Batch) -> Linear {
            Linear { base: u64::from(batch.decodes), ..Linear::default() }
        }
    }

    #[test]
    fn costs_are_remembered_of_the_very_number_of_decodes() {
        let engine = Engine::new(1000, 1000);
        let mut replica = Replica::new(&engine, ByDecodes, &Slo::default()).unwrap();
        let twice = u32::try_from(2 * MOST_COSTS).unwrap();
        for decodes in (1..=twice).chain((1..=twice).rev()) {
            replica.decodes.count = decodes;
            let (batch, cost) = replica.decode_cost();
            assert_eq!((batch.decodes, cost.time.base), (decodes, decodes.into()));
        }
    }
}
