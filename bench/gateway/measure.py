"""Runs the load against every target in turn and makes the table. Started by `run`."""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

import targets
from services import cpu_seconds, stop_on_sigterm

WORKLOADS = [("unary", 1), ("unary", 64), ("stream", 1), ("stream", 64), ("paced", 64)]
WARM_UP_SECONDS = 0.5
README = pathlib.Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- gateway: begin -->", "<!-- gateway: end -->"

# One measurement: replies per second, latency, and CPU time per reply of the target's processes.
Sample = collections.namedtuple("Sample", "rate p50_us p99_us cpu_us")


class BadReplies(Exception):
    pass


def measure(target, shape, connections, seconds, sent):
    pid = target.service and target.service.process.pid
    before = cpu_seconds(pid) if pid else 0
    command = [targets.LOAD, "clients", target.address, shape, connections, seconds, targets.MODEL]
    output = subprocess.run(
        [str(part) for part in [*command, *targets.HEADERS]], check=True, capture_output=True, text=True
    )
    result = json.loads(output.stdout)
    sent[target.name] += result["replies"]
    if result["errors"] or not result["replies"]:
        raise BadReplies(
            f"{target.name}, {shape}, {connections} connections: {result['errors']} bad replies besides "
            f"{result['replies']} good ones; the first: {result['first_error']}"
        )
    cpu = cpu_seconds(pid) - before if pid else 0
    return Sample(
        rate=result["replies"] / (result["elapsed_ns"] / 1e9),
        p50_us=result["latency_ns_p50"] / 1e3,
        p99_us=result["latency_ns_p99"] / 1e3,
        cpu_us=cpu / result["replies"] * 1e6,
    )


def measure_all(running, rounds, seconds, sent):
    """Samples by workload and target, one per round.

    The targets take turns within each round, so that a machine that is slow for a while is slow for
    all of them, and figures are only ever compared within their round.
    """
    for shape, connections in WORKLOADS:
        for target in running:
            measure(target, shape, connections, WARM_UP_SECONDS, sent)
    samples = collections.defaultdict(list)
    for number in range(rounds):
        for shape, connections in WORKLOADS:
            for target in running:
                print(f"round {number + 1}/{rounds}: {shape}, {connections} connections, {target.name}", file=sys.stderr)
                sample = measure(target, shape, connections, seconds, sent)
                samples[shape, connections, target.name].append(sample)
    return samples


def against(samples, base, figure):
    """The median over rounds of a figure made from a target's sample and the base's of the same round."""
    if not base:
        return None
    return statistics.median(figure(one, other) for one, other in zip(samples, base))


def table(samples, names):
    lines = [
        "| replies | connections | through | replies/s | against nginx | added p50 | added p99 | CPU per reply | against nginx |",
        "|---|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    names_of_shapes = {"unary": "unary, 1 KiB", "stream": "stream, 100 chunks", "paced": "stream, 100 chunks, 5 ms apart"}
    for shape, connections in WORKLOADS:
        direct, nginx = (samples.get((shape, connections, base)) for base in ("direct", "nginx"))
        for name in names:
            own = samples[shape, connections, name]
            proxied = name != "direct"
            cells = [
                names_of_shapes[shape],
                connections,
                name,
                number(statistics.median(sample.rate for sample in own)),
                ratio(against(own, nginx, lambda one, other: one.rate / other.rate)),
                microseconds(against(own, direct, lambda one, other: one.p50_us - other.p50_us)) if proxied else "",
                microseconds(against(own, direct, lambda one, other: one.p99_us - other.p99_us)) if proxied else "",
                microseconds(statistics.median(sample.cpu_us for sample in own)) if proxied else "",
                ratio(against(own, nginx, lambda one, other: one.cpu_us / other.cpu_us)) if proxied else "",
            ]
            lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def ratio(value):
    if value is None:
        return ""
    return f"{value:.2f} x" if value >= 0.1 else f"{value:.4f} x"


def microseconds(value):
    if value is None:
        return ""
    return f"{value:,.0f} us" if abs(value) < 10_000 else f"{value / 1000:,.0f} ms"


class Others:
    """How much of the machine other processes take while it is watched: the noise in the figures."""

    def __init__(self):
        self.machine, self.ours = self._now()

    def share(self):
        machine, ours = self._now()
        spent = {state: machine[state] - self.machine[state] for state in machine}
        return max(0.0, (spent["busy"] - (ours - self.ours)) / sum(spent.values()))

    def _now(self):
        # The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal.
        ticks = [int(ticks) for ticks in pathlib.Path("/proc/stat").read_text().split()[1:9]]
        idle = ticks[3] + ticks[4]
        per_second = os.sysconf("SC_CLK_TCK")
        machine = {"idle": idle / per_second, "busy": (sum(ticks) - idle) / per_second}
        ended = os.times()
        return machine, cpu_seconds(os.getpid()) + ended.children_user + ended.children_system


def surroundings(versions, rounds, seconds, others):
    """Where and with what the figures came about."""
    processor = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    rust = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.split()[1]
    return (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {os.cpu_count()} cores "
        f"({processor[1] if processor else platform.machine()}), Linux {platform.release()}, "
        f"of which other processes took {others:.0%} of the CPU time. {versions}; Rust {rust}, Python {platform.python_version()}. "
        f"Medians of {rounds} rounds of {seconds:g} s each."
    )


def billed(folder):
    """Exchanges and unpriced exchanges in farthing's bill of this run."""
    command = [targets.FARTHING, "bill", "--by", "route", "--json", "--data-dir", str(targets.data_dir(folder))]
    bill = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return bill["total"]["exchanges"], bill["total"]["unpriced_attempts"]


def check_bill(folder, sent):
    """The meter was on, and missed nothing: every reply that was measured is in the bill, with a price."""
    exchanges, unpriced = billed(folder)
    print(f"farthing: {sent:,} replies checked, {exchanges:,} exchanges in the bill, {unpriced:,} of them unpriced")
    return exchanges == sent and unpriced == 0


def write(text):
    readme = README.read_text()
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main():
    arguments = argparse.ArgumentParser(prog="bench/gateway/run", description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=3, help="length of one measurement")
    arguments.add_argument("--targets", default=",".join(targets.TARGETS), help="which, in which order")
    arguments.add_argument("--write", action="store_true", help="put the table into bench/README.md")
    options = arguments.parse_args()
    names = options.targets.split(",")
    stop_on_sigterm()

    # Asked before the start: somebody may commit meanwhile.
    versions = ", ".join(filter(None, map(targets.version, names)))
    sent = collections.Counter()
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-")))
        to, service = targets.upstream(folder)
        stack.enter_context(service)
        running = [targets.TARGETS[name](folder, to) for name in names]
        for target in running:
            if target.service:
                stack.enter_context(target.service)
        others = Others()
        samples = measure_all(running, options.rounds, options.seconds, sent)
        others = others.share()
        complete = "farthing" not in names or check_bill(folder, sent["farthing"])

    text = f"{table(samples, names)}\n\n{surroundings(versions, options.rounds, options.seconds, others)}"
    print(text)
    if not complete:
        sys.exit("the bill does not hold what was sent")
    if options.write:
        write(text)


if __name__ == "__main__":
    try:
        main()
    except BadReplies as error:
        sys.exit(str(error))
