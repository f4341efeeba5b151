//! Serving the workload on all cores: once, or at the rates of a search.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, bail};
use report::simulation::{Fleet, Pool, Pools, Scaled, Served};
use roofline::{Setup, Steps};
use servesim::{
    Balance, Classes, Engine, Goal, HighestRate, Link, Record, Report, SECOND_PS, Scaling, Slo,
    Timeline,
};

use super::offered::Traffic;

/// No search goes so far down that a run lasts longer: picoseconds count to 213 days.
const LONGEST_RUN_S: f64 = 150.0 * 86_400.0;

const TOO_LONG: &str = "all GPUs together would run for more than 213 days of simulated time";

/// A workload and the replicas that it is served by, all alike.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) engine: &'a Engine,
    pub(super) steps: &'a Steps,
    pub(super) copies: Copies,
    pub(super) gpus_of_replica: u32,
    pub(super) balance: Balance,
    pub(super) slo: &'a Slo,
    pub(super) traffic: &'a Traffic,
}

/// Replicas, and what they are for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Copies {
    /// So many that all do the same.
    Alike(u32),
    /// So many that compute prompts, so many that decode, and what is between them.
    Pools([u32; 2], Link),
    /// As many as are needed.
    Scaled(Scaling),
}

/// What is looked at beside the reports.
#[derive(Debug, Default)]
struct Watch {
    timeline: Option<Timeline>,
    classes: Option<Classes>,
}

impl Watch {
    fn add(&mut self, record: &Record, slo: &Slo) {
        if let Some(timeline) = &mut self.timeline {
            timeline.add(record);
        }
        if let Some(classes) = &mut self.classes {
            classes.add(record, slo);
        }
    }

    fn merge(&mut self, other: &Self) {
        if let (Some(to), Some(from)) = (&mut self.timeline, &other.timeline) {
            to.merge(from);
        }
        if let (Some(to), Some(from)) = (&mut self.classes, &other.classes) {
            to.merge(from);
        }
    }
}

impl Job<'_> {
    /// Serves all requests, which come so many times as fast as in the workload, by the replicas. Each is paid for until the last one has ended.
    pub(super) fn run(self, faster: f64) -> anyhow::Result<Served> {
        Ok(self.watch(faster, false)?.0)
    }

    /// The same, with the run through time if that is asked for.
    pub(super) fn watch(
        self,
        faster: f64,
        through_time: bool,
    ) -> anyhow::Result<(Served, Timeline)> {
        let mut watch = self.watcher(through_time);
        let (run, fleet) = match self.copies {
            Copies::Alike(replicas) => {
                (self.alike(replicas, faster, &mut watch)?, Fleet::Copies(replicas))
            }
            Copies::Pools(replicas, link) => self.pools(replicas, link, faster, &mut watch)?,
            Copies::Scaled(scaling) => self.scaled(scaling, faster, &mut watch)?,
        };
        let gpus = u64::from(self.gpus_of_replica);
        run.time.total_ps().checked_mul(gpus).context(TOO_LONG)?;
        if run.requests() == 0 {
            bail!("no requests in {}", self.traffic);
        }
        let Watch { timeline, classes } = watch;
        Ok((Served { run, fleet, classes }, timeline.unwrap_or_default()))
    }

    fn watcher(self, through_time: bool) -> Watch {
        Watch {
            timeline: through_time.then(Timeline::default),
            classes: self.traffic.classes().map(|_| Classes::default()),
        }
    }

    /// Serves them by as many as are needed.
    fn scaled(
        self,
        scaling: Scaling,
        faster: f64,
        watch: &mut Watch,
    ) -> anyhow::Result<(Report, Fleet)> {
        let Self { engine, steps, slo, balance, .. } = self;
        let mut failed = None;
        let all = self.traffic.requests(faster)?;
        let all = all.map_while(|request| request.map_err(|error| failed = Some(error)).ok());
        let each = |_, record: &Record| watch.add(record, slo);
        let found = servesim::serve_scaled(engine, steps, &scaling, balance, slo, all, each);
        if let Some(error) = failed {
            return Err(error);
        }
        let found = found?;
        let started = u32::try_from(found.len())?;
        // The first is never stopped, but others may be busy for longer.
        let span_ps = found.first().map_or(0, |first| first.time.total_ps());
        let run = merged(found).context(TOO_LONG)?;
        let span_ps = span_ps.max(run.last_end_ps);
        Ok((run, Fleet::Scaled(Scaled { scaling, started, span_ps })))
    }

    /// Serves them by some that compute prompts for others.
    fn pools(
        self,
        replicas: [u32; 2],
        link: Link,
        faster: f64,
        watch: &mut Watch,
    ) -> anyhow::Result<(Report, Fleet)> {
        let Self { engine, steps, slo, balance, .. } = self;
        let [prefill, decode] =
            replicas.map(|replicas| servesim::Pool { engine, time: steps, replicas, balance });
        let mut failed = None;
        let all = self.traffic.requests(faster)?;
        let all = all.map_while(|request| request.map_err(|error| failed = Some(error)).ok());
        let found = servesim::serve_pools(&prefill, &decode, &link, slo, all, |_, record| {
            watch.add(record, slo);
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let found = found?;
        let pool = |reports: Vec<Report>, replicas: u32| {
            let run = Box::new(merged(reports).context(TOO_LONG)?);
            anyhow::Ok(Pool { replicas, run })
        };
        let prefill = pool(found.prefill, replicas[0])?;
        let decode = pool(found.decode, replicas[1])?;
        let run = merged(vec![Report::clone(&prefill.run), Report::clone(&decode.run)])
            .context(TOO_LONG)?;
        Ok((run, Fleet::Pools(Pools { link, prefill, decode })))
    }

    /// Serves them by so many that all do the same, on all cores.
    fn alike(self, replicas: u32, faster: f64, watch: &mut Watch) -> anyhow::Result<Report> {
        let through_time = watch.timeline.is_some();
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // A router that looks at all of them has them on one thread.
        let each = match self.balance {
            Balance::RoundRobin => replicas.div_ceil(u32::try_from(threads)?),
            Balance::LeastLoaded | Balance::PrefixAware { .. } => replicas,
        };
        let parts = std::thread::scope(|scope| {
            let some = (0..replicas).step_by(each as usize);
            let some = some.map(|from| from..replicas.min(from.saturating_add(each)));
            let run = |some| scope.spawn(move || self.some(replicas, &some, faster, through_time));
            let handles: Vec<_> = some.map(run).collect();
            let ended = handles.into_iter().map(|handle| {
                handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            ended.collect::<anyhow::Result<Vec<_>>>()
        })?;
        let (reports, watched): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        watched.iter().for_each(|part| watch.merge(part));
        let reports = reports.into_iter().flatten();
        let span = reports.clone().map(|report| report.time.total_ps()).max().unwrap_or(0);
        let paid_to_the_end = reports.map(|mut report| {
            report.time.idle_ps += span - report.time.total_ps();
            report
        });
        merged(paid_to_the_end.collect()).context(TOO_LONG)
    }

    /// Serves the requests of some replicas that follow each other. What they get in turn of all is what
    /// they get in turn of theirs, so that the workload is gone through once a thread.
    fn some(
        self,
        replicas: u32,
        numbers: &Range<u32>,
        faster: f64,
        through_time: bool,
    ) -> anyhow::Result<(Vec<Report>, Watch)> {
        let mut failed = None;
        let mut watch = self.watcher(through_time);
        let all = self.traffic.requests(faster)?.zip((0..replicas).cycle());
        let own = all.filter(|(_, turn)| numbers.contains(turn)).map(|(request, _)| request);
        let own = own.map_while(|request| request.map_err(|error| failed = Some(error)).ok());
        let Self { engine, steps, slo, balance, .. } = self;
        let replicas = numbers.end - numbers.start;
        let reports =
            servesim::serve_fleet(engine, steps, replicas, balance, slo, own, |_, record| {
                watch.add(record, slo);
            });
        match failed {
            Some(error) => Err(error),
            None => Ok((reports?, watch)),
        }
    }

    /// Searches the highest rate that meets a goal, from a guess in closed form, and tells what became of
    /// the requests at the best rate that was tried.
    pub(super) fn highest_rate(
        self,
        goal: &Goal,
        setup: &Setup,
    ) -> anyhow::Result<(f64, HighestRate, Served)> {
        let shape = self.traffic.shape()?;
        let guess = self.closed_form(setup, self.slo, &shape)?;
        let least = (guess / 100.0).max(shape.requests as f64 / LONGEST_RUN_S);
        let mut runs = Vec::new();
        let found = goal.highest_rate(guess, least, |rate| {
            let served = self.run(rate / shape.per_second)?;
            let report = served.run.clone();
            runs.push((rate, served));
            anyhow::Ok(report)
        })?;
        let best = found.best().map_or(guess, |trial| trial.rate);
        let best = runs.into_iter().find(|(rate, _)| rate.total_cmp(&best).is_eq());
        let (_, served) = best.context("a search simulates at least once")?;
        Ok((guess, found, served))
    }

    /// What the replicas serve within an SLO, about.
    fn closed_form(self, setup: &Setup, slo: &Slo, shape: &Shape) -> anyhow::Result<f64> {
        let lengths = shape.mean_lengths();
        Ok(match self.copies {
            Copies::Alike(replicas) => {
                servesim::closed_form(setup, self.engine, slo, replicas, lengths)?
            }
            Copies::Pools(replicas, _) => {
                servesim::closed_form_of_pools(setup, self.engine, slo, replicas, lengths)?
            }
            Copies::Scaled(Scaling { most, .. }) => {
                servesim::closed_form(setup, self.engine, slo, most, lengths)?
            }
        })
    }
}

/// Shares of the highest throughput at which a sweep looks.
const SWEEP: [f64; 12] = [0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
/// A sweep goes up by so much until requests come faster than they are served.
const FURTHER: f64 = 1.1;
/// And no further than so often.
const MOST_FURTHER: usize = 12;

impl Job<'_> {
    /// The workload at rates from hardly any to more than is served, on all cores.
    pub(super) fn sweep(self, setup: &Setup) -> anyhow::Result<Vec<(f64, Served)>> {
        let shape = self.traffic.shape()?;
        let most = self.closed_form(setup, &Slo::default(), &shape)?;
        let least = shape.requests as f64 / LONGEST_RUN_S;
        let at = |rate: f64| {
            let rate = rate.max(least);
            self.run(rate / shape.per_second).map(|served| (rate, served))
        };
        let next = AtomicUsize::new(0);
        let worker = || {
            let own = std::iter::from_fn(|| SWEEP.get(next.fetch_add(1, Ordering::Relaxed)));
            own.map(|share| at(share * most)).collect::<anyhow::Result<Vec<_>>>()
        };
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut runs = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
            let ended = workers.into_iter().map(|worker| {
                worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            ended.collect::<anyhow::Result<Vec<_>>>()
        })?
        .concat();
        runs.sort_by(|left, right| left.0.total_cmp(&right.0));
        for _ in 0..MOST_FURTHER {
            match runs.last() {
                Some((rate, served)) if !served.run.falls_behind() => {
                    let next = at(rate * FURTHER)?;
                    runs.push(next);
                }
                _ => break,
            }
        }
        // Beyond that, latencies are as long as the run: one such point is enough.
        let keeps_up = runs.iter().take_while(|(_, served)| !served.run.falls_behind()).count();
        runs.truncate(keeps_up + 1);
        Ok(runs)
    }
}

/// Reports as one; `None` if picoseconds cannot count the time of them all.
fn merged(reports: Vec<Report>) -> Option<Report> {
    let spans = reports.iter().map(|report| report.time.total_ps());
    spans.clone().try_fold(0_u64, u64::checked_add)?;
    reports.into_iter().reduce(|mut all, report| {
        all.merge(&report);
        all
    })
}

/// What the requests of a workload are like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) requests: u64,
    /// While they came.
    pub(super) per_second: f64,
    mean_prompt: u32,
    mean_output: u32,
}

impl Shape {
    pub(super) const fn mean_lengths(&self) -> (u32, u32) {
        (self.mean_prompt, self.mean_output)
    }
}

impl Traffic {
    /// Goes through all requests once.
    pub(super) fn shape(&self) -> anyhow::Result<Shape> {
        let (mut requests, mut last, mut prompt, mut output) = (0_u64, 0, 0_u64, 0_u64);
        for request in self.requests(1.0)? {
            let request = request?.request;
            requests += 1;
            last = request.arrival_ps;
            prompt += u64::from(request.prompt);
            output += u64::from(request.output);
        }
        anyhow::ensure!(requests > 0, "no requests in {self}");
        let mean = |all: u64| u32::try_from(all.div_ceil(requests.max(1))).unwrap_or(u32::MAX);
        let per_second = requests.saturating_sub(1) as f64 * SECOND_PS as f64 / last as f64;
        let spread = per_second.is_finite() && per_second > 0.0;
        spread.then_some(()).with_context(|| {
            format!("the requests in {self} come at once: there is no rate that could be scaled")
        })?;
        let (mean_prompt, mean_output) = (mean(prompt), mean(output));
        Ok(Shape { requests, per_second, mean_prompt, mean_output })
    }
}
