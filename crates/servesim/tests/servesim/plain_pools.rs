//! Two pools of replicas, one wholly before the other.

use servesim::{Balance, Engine, Link, Outcome, Record, Report};

use crate::agree::Case;
use crate::plain_fleet::choose;
use crate::reference::{Reference, Sent};
use crate::setting::Machine;

/// What a case is served by besides: the pool that decodes, and how prompts come there.
#[derive(Debug, Clone)]
pub(crate) struct Split {
    pub(crate) replicas: [u32; 2],
    pub(crate) balances: [Balance; 2],
    /// Of the replicas that decode.
    pub(crate) engine: Engine,
    pub(crate) machine: Machine,
    pub(crate) link: Link,
}

/// What happened, so that it can be told whether everything does.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) sent: usize,
    pub(crate) lost_on_the_way: usize,
    pub(crate) waited_for_the_link: usize,
    pub(crate) waited_for_blocks_being_sent: usize,
    pub(crate) overtaken: usize,
    pub(crate) preempted_there: usize,
    pub(crate) given_up_there: usize,
    pub(crate) given_up_before_it_began_there: usize,
    pub(crate) chosen_there_for_its_cache: usize,
    pub(crate) shared_there: usize,
}

/// Serves a case; tells of each request which replica had it last and what became of it, and of each
/// replica what it came to.
pub(crate) fn simulate(case: &Case, split: &Split) -> (Vec<Report>, Vec<(u32, Record)>, Seen) {
    let Case { engine, machine, requests, prefixes, slo } = case;
    let mut seen = Seen::default();
    let max_model_len = engine.max_model_len.min(split.engine.max_model_len);
    let engine = Engine { max_model_len, ..engine.clone() };
    let behind = Engine {
        max_model_len,
        priority_classes: engine.priority_classes,
        timeout_ps: engine.timeout_ps,
        max_queue: None,
        queue_timeout_ps: None,
        ..split.engine.clone()
    };
    let mut first: Vec<_> = (0..split.replicas[0])
        .map(|_| {
            let mut one = Reference::new(&engine, machine, slo, 0);
            one.link = Some(split.link);
            (one, Vec::new())
        })
        .collect();
    let mut turn = 0;
    for (number, (request, prefix)) in requests.iter().zip(prefixes).enumerate() {
        let at = request.arrival_ps;
        let mut open: Vec<_> = first.iter_mut().map(|(one, _)| Some(one)).collect();
        let (which, _) = choose(&mut open, turn, at, (request, prefix), split.balances[0]);
        first[which].0.push(request, prefix);
        first[which].1.push(number as u64);
        turn = (which + 1) % first.len();
    }
    // Everything that is sent, in the order in which it arrives.
    let mut records = Vec::new();
    let mut coming: Vec<Sent> = Vec::new();
    let mut end = 0;
    for (which, (one, numbers)) in (0..).zip(&mut first) {
        one.settle(u64::MAX);
        end = end.max(one.now);
        seen.waited_for_blocks_being_sent += one.held_up;
        let global = |record: &mut Record| {
            record.number = numbers[usize::try_from(record.number).unwrap()];
        };
        for record in &mut one.records {
            global(record);
            records.push((which, *record));
        }
        let mut free = 0;
        for mut sent in one.sent.clone() {
            global(&mut sent.record);
            seen.sent += 1;
            let started = sent.ready - split.link.latency_ps;
            seen.waited_for_the_link += usize::from(free > sent.record.first_token_ps.unwrap());
            free = started;
            let request = &requests[usize::try_from(sent.record.number).unwrap()];
            let spans =
                [(request.patience_ps, Outcome::Aborted), (engine.timeout_ps, Outcome::Timeout)];
            let ends =
                spans.into_iter().filter_map(|(span, how)| Some((request.arrival_ps + span?, how)));
            match ends.min().filter(|&(at, _)| at < sent.ready) {
                Some((at, how)) => {
                    seen.lost_on_the_way += 1;
                    let prompt = u64::from(sent.record.prompt);
                    one.report.work.sent_tokens -= prompt;
                    one.report.work.abandoned_tokens += prompt;
                    let lost = Record { end_ps: at, outcome: how, ..sent.record };
                    one.tell(lost);
                    records.push((which, lost));
                }
                None => coming.push(sent),
            }
        }
    }
    coming.sort_by_key(|sent| (sent.ready, sent.record.number));
    seen.overtaken +=
        coming.windows(2).filter(|two| two[0].record.number > two[1].record.number).count();
    let mut second: Vec<_> =
        (0..split.replicas[1]).map(|_| Reference::new(&behind, &split.machine, slo, 0)).collect();
    turn = 0;
    for sent in &coming {
        let number = usize::try_from(sent.record.number).unwrap();
        let of = (&requests[number], &prefixes[number]);
        let mut open: Vec<_> = second.iter_mut().map(Some).collect();
        let (which, for_its_cache) = choose(&mut open, turn, sent.ready, of, split.balances[1]);
        seen.chosen_there_for_its_cache += usize::from(for_its_cache);
        second[which].receive(sent, of.0, of.1);
        turn = (which + 1) % second.len();
    }
    for (which, one) in (split.replicas[0]..).zip(&mut second) {
        one.settle(u64::MAX);
        end = end.max(one.now);
        seen.preempted_there += usize::from(one.report.work.preemptions > 0);
        seen.shared_there += one.kv.in_use + one.kv.idle;
        for record in &one.records {
            seen.given_up_there += usize::from(record.outcome != Outcome::Completed);
            let began = record.generated > 1;
            seen.given_up_before_it_began_there +=
                usize::from(record.outcome != Outcome::Completed && !began);
            records.push((which, *record));
        }
        assert_eq!(one.kv.free.len(), behind.kv_blocks as usize, "a block was lost");
    }
    let all = first.into_iter().map(|(one, _)| one).chain(second);
    let reports = all.map(|one| {
        let mut report = one.report;
        report.time.idle_ps += end - one.now;
        report
    });
    records.sort_by_key(|(_, record)| record.number);
    (reports.collect(), records, seen)
}
