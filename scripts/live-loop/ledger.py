"""What the ledger has metered: runs, and the points that they come to."""

import collections
import csv
import dataclasses
import datetime
import json
import statistics

from farthing import ask

COLUMNS = (
    "source,source_path_or_url,commit_or_date,model,params,quantization,gpu,n_gpus,tp,pp,ep,dp,engine,engine_version,isl,osl,"
    "concurrency_or_rate,throughput_output_tok_s,throughput_total_tok_s,throughput_per_gpu,ttft_ms_mean,ttft_ms_p50,"
    "ttft_ms_p95,ttft_ms_p99,tpot_ms,tpot_ms_p99,itl_ms,e2e_ms,notes"
).split(",")


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a closed loop, as the ledger saw it."""

    concurrency: int
    requests: int
    input_tokens: int
    output_tokens: int
    seconds: float
    # Each one's dispatch, in seconds since 1970, and its tokens of input and output.
    arrivals: tuple
    # Of each: seconds from dispatch to the first token, from token to token, and from dispatch to the last token.
    ttfts: tuple
    tpots: tuple
    latencies: tuple

    @property
    def ttft(self):
        return statistics.mean(self.ttfts)

    @property
    def tpot(self):
        return statistics.mean(self.tpots)

    @property
    def throughput(self):
        return self.output_tokens / self.seconds

    def scaled(self, share):
        """The run as it had been if the server had had its processors for itself: it ran for this share of the time."""
        times = lambda values: tuple(value * share for value in values)
        start = min(at for at, _, _ in self.arrivals)
        arrivals = tuple((start + (at - start) * share, *tokens) for at, *tokens in self.arrivals)
        return dataclasses.replace(
            self, arrivals=arrivals, seconds=self.seconds * share, ttfts=times(self.ttfts),
            tpots=times(self.tpots), latencies=times(self.latencies),
        )


def runs(farthing, data_dir):
    """The runs by route and tag `run`. Times are the journal's, tokens what the server reported."""
    labels, dispatched, ended = {}, {}, collections.defaultdict(list)
    for line in ask(farthing, data_dir, "journal", "dump").splitlines():
        record = json.loads(line)
        exchange = record.get("exchange")
        if record["kind"] == "admitted":
            own = record["labels"]
            labels[exchange] = own["route"], own["tags"].get("run")
        elif record["kind"] == "dispatched":
            dispatched[exchange] = _seconds(record["dispatched_at"])
        elif record["kind"] == "attempt_ended" and labels[exchange][1] is not None:
            if record["usage_source"] != "reported":
                raise RuntimeError(f"exchange {exchange}: usage {record['usage_source']}, expected one that was reported")
            ended[labels[exchange]].append((dispatched[exchange], record))
    return {name: _run(name[0], attempts) for name, attempts in ended.items()}


def _run(route, attempts):
    usages = [record["usage"] for _, record in attempts]
    first = [_seconds(record["first_token_at"]) for _, record in attempts]
    last = [_seconds(record["last_token_at"]) for _, record in attempts]
    output = [usage["output_tokens"] for usage in usages]
    return Run(
        concurrency=int(route.removeprefix("c")),
        requests=len(attempts),
        input_tokens=sum(usage["input_tokens"] for usage in usages),
        output_tokens=sum(output),
        arrivals=tuple((at, usage["input_tokens"], tokens) for (at, _), usage, tokens in zip(attempts, usages, output)),
        seconds=max(last) - min(at for at, _ in attempts),
        ttfts=tuple(token - at for (at, _), token in zip(attempts, first)),
        tpots=tuple((b - a) / (tokens - 1) for a, b, tokens in zip(first, last, output)),
        latencies=tuple(b - at for (at, _), b in zip(attempts, last)),
    )


def _seconds(text):
    """Of a time with nanoseconds, of which six digits are read."""
    whole, _, rest = text.rstrip("Z").partition(".")
    at = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.timezone.utc)
    return at.timestamp() + float(f"0.{rest or 0}")


def hosted_costs(farthing, data_dir):
    """By route and tag `run`, what the hours come to in which it was served, in US dollars."""
    bill = json.loads(ask(farthing, data_dir, "bill", "--by", "route,tag:run", "--json"))
    return {tuple(group["key"].values()): float(group["measures"]["hosted_cost_usd"]) for group in bill["groups"]}


@dataclasses.dataclass(frozen=True)
class Measured:
    """A figure that was measured several times."""

    median: float
    # From the second least to the second largest, as a part of the median: chance, without the odd ones.
    spread: float

    @classmethod
    def of(cls, values):
        values = sorted(values)
        middle = statistics.median(values)
        inner = values[1:-1] if len(values) > 3 else values
        return cls(middle, (inner[-1] - inner[0]) / middle)


@dataclasses.dataclass(frozen=True)
class Point:
    """A concurrency, its runs taken together."""

    concurrency: int
    requests: int
    isl: int
    osl: int
    throughput: Measured
    ttft: Measured
    tpot: Measured

    @classmethod
    def of(cls, concurrency, runs):
        every = [one for one in runs.values() if one.concurrency == concurrency]
        requests = sum(one.requests for one in every)
        return cls(
            concurrency,
            every[0].requests,
            round(sum(one.input_tokens for one in every) / requests),
            round(sum(one.output_tokens for one in every) / requests),
            Measured.of([one.throughput for one in every]),
            Measured.of([one.ttft for one in every]),
            Measured.of([one.tpot for one in every]),
        )


def write_points(path, points, facts):
    """The points as a CSV that `farthing calibrate` and `farthing validate` read."""
    with open(path, "w", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        rows.writeheader()
        for point in points:
            row = {
                **facts,
                "isl": point.isl,
                "osl": point.osl,
                "concurrency_or_rate": f"conc={point.concurrency}",
                "throughput_output_tok_s": f"{point.throughput.median:.4g}",
                "ttft_ms_mean": f"{point.ttft.median * 1e3:.4g}",
                "tpot_ms": f"{point.tpot.median * 1e3:.4g}",
                "notes": f"agg; closed loop; requests={point.requests}",
            }
            rows.writerow(row)
