"""An open loop: requests arrive at half of the rate that farthing can take, whether or not replies come."""

import collections
import statistics
import sys

from page import microseconds, number, table

# What arrives, and on how many connections a closed loop saturates a target with it.
SHAPES = {"unary": 64, "stream": 64, "paced": 1024}
NAMES = {"unary": "unary, 1 KiB", "stream": "stream, 100 chunks", "paced": "stream, 100 chunks, 5 ms apart"}


def measured(start, names, options):
    stand = start(names, pinned=True)
    # By shape and target: what it takes per second, and what was added in each round.
    most, added = {}, collections.defaultdict(list)
    for shape, connections in SHAPES.items():
        for target in stand.targets:
            print(f"saturation: {shape}, {target.name}", file=sys.stderr)
            stand.load("clients", target, shape, min(connections, 64), 0.5)
            result = stand.load("clients", target, shape, connections, options.seconds)
            most[shape, target.name] = result["replies"] / (result["elapsed_ns"] / 1e9)
    reference = "farthing" if "farthing" in names else names[-1]
    for turn in range(options.rounds):
        for shape in SHAPES:
            # One rate for all who can take it; who cannot is measured at half of its own.
            rates = {name: min(most[shape, name], most[shape, reference]) / 2 for name in names}
            for target in stand.targets:
                if target.name == "direct":
                    continue
                rate = rates[target.name]
                print(f"round {turn + 1}: {shape}, {rate:.0f}/s, {target.name}", file=sys.stderr)
                direct, own = (
                    stand.load("arrivals", way, shape, rate, options.seconds) for way in (stand.targets[0], target)
                )
                added[shape, target.name].append(
                    [(own[key] - direct[key]) / 1e3 for key in ("latency_ns_p50", "latency_ns_p99")]
                )
    stand.check_bill()
    rows = []
    for shape in SHAPES:
        for name in names:
            if name == "direct":
                continue
            p50, p99 = (statistics.median(each) for each in zip(*added[shape, name]))
            saturation = most[shape, name]
            rate = min(saturation, most[shape, reference]) / 2
            rows.append(
                [NAMES[shape], name, number(saturation), number(rate), microseconds(p50), microseconds(p99)]
            )
    head = ["replies", "through", ">most/s", ">arrivals/s", ">added p50", ">added p99"]
    return table(head, rows), f"Medians of {options.rounds} rounds of {options.seconds:g} s each."
