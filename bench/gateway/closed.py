"""A closed loop: each connection sends its next request when the last reply is complete."""

import collections
import statistics
import sys

from page import microseconds, number, ratio, table

WORKLOADS = [("unary", 1), ("unary", 64), ("stream", 1), ("stream", 64), ("paced", 64)]
SHAPES = {"unary": "unary, 1 KiB", "stream": "stream, 100 chunks", "paced": "stream, 100 chunks, 5 ms apart"}
WARM_UP_SECONDS = 0.5

# One measurement: replies per second, latency, and CPU time per reply of the target's processes.
Sample = collections.namedtuple("Sample", "rate p50_us p99_us cpu_us")


def sample(stand, target, shape, connections, seconds):
    result = stand.load("clients", target, shape, connections, seconds)
    return Sample(
        rate=result["replies"] / (result["elapsed_ns"] / 1e9),
        p50_us=result["latency_ns_p50"] / 1e3,
        p99_us=result["latency_ns_p99"] / 1e3,
        cpu_us=result["cpu_seconds"] / result["replies"] * 1e6,
    )


def measured(start, names, options):
    """Samples by workload and target, one per round.

    The targets take turns within each round, so that a machine that is slow for a while is slow for
    all of them, and figures are only ever compared within their round.
    """
    stand = start(names, pinned=False)
    for shape, connections in WORKLOADS:
        for target in stand.targets:
            sample(stand, target, shape, connections, WARM_UP_SECONDS)
    samples = collections.defaultdict(list)
    for turn in range(options.rounds):
        for shape, connections in WORKLOADS:
            for target in stand.targets:
                print(f"round {turn + 1}: {shape}, {connections} connections, {target.name}", file=sys.stderr)
                samples[shape, connections, target.name].append(
                    sample(stand, target, shape, connections, options.seconds)
                )
    stand.check_bill()
    return table_of(samples, names), f"Medians of {options.rounds} rounds of {options.seconds:g} s each."


def against(samples, base, figure):
    """The median over rounds of a figure made from a target's sample and the base's of the same round."""
    if not base:
        return None
    return statistics.median(figure(one, other) for one, other in zip(samples, base))


def table_of(samples, names):
    rows = []
    for shape, connections in WORKLOADS:
        direct, nginx = (samples.get((shape, connections, base)) for base in ("direct", "nginx"))
        for name in names:
            own = samples[shape, connections, name]
            cells = [
                SHAPES[shape],
                connections,
                name,
                number(statistics.median(sample.rate for sample in own)),
                ratio(against(own, nginx, lambda one, other: one.rate / other.rate)),
            ]
            if name == "direct":
                cells += [""] * 4
            else:
                cells += [
                    microseconds(against(own, direct, lambda one, other: one.p50_us - other.p50_us)),
                    microseconds(against(own, direct, lambda one, other: one.p99_us - other.p99_us)),
                    microseconds(statistics.median(sample.cpu_us for sample in own)),
                    ratio(against(own, nginx, lambda one, other: one.cpu_us / other.cpu_us)),
                ]
            rows.append(cells)
    head = ["replies", ">connections", "through", ">replies/s", ">against nginx"]
    return table([*head, ">added p50", ">added p99", ">CPU per reply", ">against nginx"], rows)
