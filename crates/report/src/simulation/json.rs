//! A simulated run for programs.

use calibration::Metric;
use quantity::EstimatedUsd;
use roofline::{Basis, Row};
use servesim::{Class, Classes, Histogram, Outcome, Scaling, Work};

use crate::json::Json;
use crate::object;

use super::{Fleet, Pool, Pools, Scaled, Search, Simulation, Source, Spread, wasted_tokens};

impl Simulation<'_> {
    /// The run as JSON, schema `farthing.simulation/1`. Times of the run are whole picoseconds, so that parts sum;
    /// latencies are nanoseconds; rates, shares and modelled money are decimal texts.
    #[must_use]
    pub fn json(&self) -> String {
        let Self { setup, memory, engine, run, .. } = *self;
        let (basis, _) = setup.certainty();
        let kernel = |(name, fractions): (&str, roofline::Fractions)| {
            object! {
                "kernel" => name,
                "fit_error" => decimal(Some(fractions.error), 4),
                "basis" => basis_name(fractions.basis),
            }
        };
        let interval = |metric| {
            self.interval(metric).map(|band| {
                object! {
                    "low" => decimal(Some(band.low), 3),
                    "high" => decimal(Some(band.high), 3),
                    "rests_on" => band.why,
                }
            })
        };
        let work = run.work;
        let (mfu, mbu) = self.utilisation(run);
        object! {
            "schema" => "farthing.simulation/1",
            "setup" => object! {
                "model" => setup.model.row().name(),
                "gpu" => setup.accelerator.row().name(),
                "engine" => setup.engine.row().name(),
                "tensor_parallel" => setup.layout.tensor,
                "pipeline_parallel" => setup.layout.pipeline,
                "data_parallel" => setup.layout.data,
                "expert_parallel" => setup.layout.expert,
                "replicas" => self.fleet.replicas(),
                "gpus" => self.fleet.replicas().map(|replicas| replicas.saturating_mul(self.accelerators_of_replica())),
                "weights" => setup.formats.weights.name(),
                "experts" => setup.model.experts.map(|_| setup.formats.experts.name()),
                "kv_cache" => setup.formats.kv.name(),
                "hbm_bytes" => whole(memory.hbm_bytes),
                "weight_bytes" => whole(memory.weight_bytes),
                "kv_cache_bytes" => whole(memory.kv_bytes),
                "kv_cache_tokens" => memory.kv_tokens,
                "max_num_seqs" => engine.max_num_seqs,
                "max_num_batched_tokens" => engine.max_num_batched_tokens,
                "max_model_len" => engine.max_model_len,
                "max_queue" => engine.max_queue,
                "queue_timeout_ns" => engine.queue_timeout_ps.map(nanos),
                "timeout_ns" => engine.timeout_ps.map(nanos),
            },
            "offered" => self.offered_json(),
            "slo" => object! {
                "ttft_ns" => self.slo.ttft_ps.map(nanos),
                "tpot_ns" => self.slo.tpot_ps.map(nanos),
            },
            "search" => self.search.map(Search::json),
            "span_ps" => self.span_ps(),
            "requests" => object! {
                "completed" => self.completed(),
                "within_slo" => self.has_slo().then_some(run.good),
                "too_long" => run.count(Outcome::TooLong),
                "queue_full" => run.count(Outcome::QueueFull),
                "queue_timeout" => run.count(Outcome::QueueTimeout),
                "timeout" => run.count(Outcome::Timeout),
                "completed_per_second" => decimal(self.per_second(self.completed()), 6),
                "goodput_per_second" => {
                    let good = self.has_slo().then_some(run.good);
                    decimal(good.and_then(|good| self.per_second(good)), 6)
                },
            },
            "tokens" => object! {
                "input" => run.prompt_tokens,
                "cached_input" => run.cached_tokens,
                "output" => run.generated_tokens,
                "useful_input" => self.run.good_prompt_tokens,
                "useful_output" => self.run.good_generated_tokens,
                "input_per_second" => decimal(self.per_second(run.prompt_tokens), 3),
                "output_per_second" => decimal(self.per_second(run.generated_tokens), 3),
            },
            "latency" => object! {
                "wait" => histogram(&run.wait),
                "ttft" => histogram(&run.ttft),
                "tpot" => histogram(&run.tpot),
                "handover" => match self.fleet {
                    Fleet::Copies(_) | Fleet::Scaled(_) => None,
                    Fleet::Pools(_) => Some(histogram(&run.handover)),
                },
                "itl" => histogram(&run.itl),
                "end_to_end" => histogram(&run.latency),
            },
            "batch" => Spread::of(&run.batch_ps).map(|spread| spread_json(spread, 0.0, 0)),
            "kv_percent" => Spread::of(&run.kv_ps).map(|spread| spread_json(spread, 0.5, 1)),
            "mfu" => decimal(mfu, 4),
            "mbu" => decimal(mbu, 4),
            "work" => work_json(&work),
            "pools" => self.pools_json(),
            "autoscale" => self.scaled_json(),
            "priorities" => self.classes.map(|classes| self.classes_json(classes)),
            "gpu_time" => self.money_json(),
            "energy" => self.energy().map(|energy| object! {
                "watts_per_gpu" => decimal(Some(energy.watts), 1),
                "joules" => decimal(Some(energy.joules), 3),
                "joules_per_input_token" => decimal(energy.per_input, 6),
                "joules_per_output_token" => decimal(energy.per_output, 6),
            }),
            "notes" => self.notes(),
            "certainty" => object! {
                "calibrated" => true,
                "interval" => object! {
                    "output_per_second" => interval(Metric::Throughput),
                    "ttft" => interval(Metric::Ttft),
                    "tpot" => interval(Metric::Tpot),
                    "end_to_end" => interval(Metric::Latency),
                    "highest_rate" => interval(Metric::Rate),
                },
                "basis" => basis_name(basis),
                "kernels" => setup.fractions().into_iter().map(kernel).collect::<Json>(),
            },
            "figures" => self.rows().flat_map(figures).collect::<Json>(),
        }
        .pretty()
    }

    fn pools_json(&self) -> Option<Json> {
        let Fleet::Pools(Pools { link, prefill, decode }) = self.fleet else { return None };
        let gpus = self.accelerators_of_replica();
        let pool = |Pool { replicas, run }: &Pool| {
            let (mfu, mbu) = self.utilisation(run);
            let time = run.time;
            let gpu_ps = |ps: u64| ps.saturating_mul(gpus.into());
            object! {
                "replicas" => *replicas,
                "gpus" => replicas.saturating_mul(gpus),
                "busy" => decimal(run.busy(), 4),
                "batch" => Spread::of(&run.batch_ps).map(|spread| spread_json(spread, 0.0, 0)),
                "kv_percent" => Spread::of(&run.kv_ps).map(|spread| spread_json(spread, 0.5, 1)),
                "mfu" => decimal(mfu, 4),
                "mbu" => decimal(mbu, 4),
                "work" => work_json(&run.work),
                "gpu_ps" => object! {
                    "input" => gpu_ps(time.input_ps),
                    "cached_input" => gpu_ps(time.cached_ps),
                    "output" => gpu_ps(time.output_ps),
                    "idle" => gpu_ps(time.idle_ps),
                    "total" => gpu_ps(time.total_ps()),
                },
            }
        };
        Some(object! {
            "link" => object! {
                "bytes_per_second" => link.bytes_per_second,
                "latency_ns" => nanos(link.latency_ps),
                "kv_cache_bytes_per_token" => link.bytes_per_token,
                "kv_cache_bytes_per_windowed_token" => link.windowed_bytes_per_token,
                "window" => (link.window > 0).then_some(link.window),
            },
            "sent_tokens" => prefill.run.work.sent_tokens,
            "prefill" => pool(prefill),
            "decode" => pool(decode),
        })
    }

    fn scaled_json(&self) -> Option<Json> {
        let Fleet::Scaled(Scaled { scaling, started, .. }) = self.fleet else { return None };
        let Scaling { least, most, target_load, every_ps, cold_start_ps, hold_ps } = *scaling;
        let gpus = u64::from(self.accelerators_of_replica());
        Some(object! {
            "least" => least,
            "most" => most,
            "target_load" => target_load,
            "every_ns" => nanos(every_ps),
            "cold_start_ns" => nanos(cold_start_ps),
            "hold_ns" => nanos(hold_ps),
            "started" => *started,
            "mean_replicas" => decimal(Some(self.replicas()), 4),
            "starting_gpu_ps" => self.run.time.cold_ps.saturating_mul(gpus),
        })
    }

    fn classes_json(&self, classes: &Classes) -> Json {
        let told = self.priorities();
        let class = |(place, class)| self.class_json(told.get(place).copied(), class);
        classes.iter().enumerate().map(class).collect()
    }

    fn class_json(&self, priority: Option<i64>, class: &Class) -> Json {
        object! {
            "priority" => priority.map(|priority| priority.to_string()),
            "requests" => class.requests,
            "completed" => class.completed,
            "within_slo" => self.has_slo().then_some(class.good),
            "ttft" => histogram(&class.ttft),
            "end_to_end" => histogram(&class.latency),
        }
    }

    fn offered_json(&self) -> Json {
        let (mut trace, mut ledger, mut made) = (None, None, None);
        let (mut played, mut drawn, mut day, mut turns) = (None, None, None, None);
        match self.source {
            Source::Trace { file, format, part, left_out, scale, seed, .. } => {
                trace = Some((file, format, part, *left_out));
                (played, drawn) = (Some(scale), *seed);
            }
            Source::Ledger { route, unknown, without_tokens, estimated, input, cached, scale } => {
                ledger = Some(object! {
                    "route" => route.as_ref(),
                    "unknown_usage" => *unknown,
                    "without_tokens" => *without_tokens,
                    "estimated_requests" => *estimated,
                    "input_tokens" => *input,
                    "cached_input_tokens_told" => *cached,
                });
                played = Some(scale);
            }
            Source::Made { rate, input, output, cv, diurnal, sessions, seed } => {
                made = Some((rate, *input, *output, cv));
                (day, turns, drawn) = (diurnal.as_ref(), *sessions, Some(*seed));
            }
        }
        object! {
            "requests" => self.run.requests(),
            "per_second" => decimal(self.offered_per_second(), 6),
            "trace" => trace.map(|trace| trace.0),
            "format" => trace.map(|trace| trace.1),
            "part" => trace.and_then(|trace| trace.2.as_ref()),
            "left_out_requests" => trace.map(|trace| trace.3),
            "ledger" => ledger,
            "scale" => played,
            "rate" => made.and_then(|made| made.0.as_ref()),
            "input_tokens" => made.map(|made| made.1),
            "output_tokens" => made.map(|made| made.2),
            "cv" => made.and_then(|made| made.3.as_ref()),
            "peak_to_floor" => day.map(|day| &day.0),
            "peak_hour" => day.map(|day| &day.1),
            "turns" => turns.map(|turns| turns.0),
            "between_turns_ns" => turns.map(|turns| u64::try_from(turns.1.as_nanos()).unwrap_or(u64::MAX)),
            "seed" => drawn,
        }
    }

    fn money_json(&self) -> Json {
        let [input, cached, output, idle] = self.parts();
        let all = self.gpu_ps();
        let part = |gpu_ps: u64, tokens: Option<u64>| {
            let per_mtok = tokens.and_then(|tokens| self.cost_per(gpu_ps, tokens, 1e6));
            object! {
                "gpu_ps" => gpu_ps,
                "modelled_usd" => usd(self.cost(gpu_ps)),
                "modelled_usd_per_mtok" => usd(per_mtok),
            }
        };
        object! {
            "input" => part(input.gpu_ps, input.tokens),
            "cached_input" => part(cached.gpu_ps, cached.tokens),
            "output" => part(output.gpu_ps, output.tokens),
            "idle" => part(idle.gpu_ps, idle.tokens),
            "total" => part(all, None),
            "modelled_usd_per_gpu_hour" => usd(self.gpu_hour),
            "modelled_usd_per_useful_output_mtok" => usd(self.cost_per_useful_mtok()),
            "modelled_usd_per_1k_requests" => usd(self.cost_per(all, self.completed(), 1e3)),
        }
    }
}

fn figures(row: &Row) -> impl Iterator<Item = Json> {
    row.figures().map(|(key, value, source)| {
        object! {
            "of" => row.name(),
            "figure" => key,
            "value" => value.to_string(),
            "source" => source,
        }
    })
}

fn work_json(work: &Work) -> Json {
    object! {
        "steps" => work.steps,
        "preemptions" => work.preemptions,
        "prefill_tokens" => work.prefill_tokens,
        "decode_tokens" => work.decode_tokens,
        "wasted_tokens" => wasted_tokens(work),
    }
}

fn histogram(times: &Histogram) -> Json {
    let quantile = |share| times.quantile_ps(share).map(nanos);
    object! {
        "count" => times.count(),
        "mean_ns" => times.mean_ps().map(|ps| whole(ps / 1e3)),
        "p50_ns" => quantile(0.5),
        "p95_ns" => quantile(0.95),
        "p99_ns" => quantile(0.99),
    }
}

fn spread_json(spread: Spread, above: f64, upto: u64) -> Json {
    object! {
        "mean" => decimal(Some(spread.mean + above), 2),
        "p50" => spread.p50 as u64 + upto,
        "p95" => spread.p95 as u64 + upto,
        "most" => spread.most as u64 + upto,
    }
}

pub(super) const fn nanos(ps: u64) -> u64 {
    ps / 1000
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

pub(super) fn decimal(value: Option<f64>, places: usize) -> Option<String> {
    value.map(|value| format!("{value:.places$}"))
}

fn usd(amount: Option<EstimatedUsd>) -> Option<String> {
    decimal(amount.map(EstimatedUsd::usd), 6)
}

fn basis_name(basis: Basis) -> &'static str {
    match basis {
        Basis::Measured => "measured",
        Basis::SameChip => "same_chip",
        Basis::OtherEngine => "other_engine",
        Basis::Generic => "generic",
    }
}
