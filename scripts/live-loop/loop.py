"""Measures a model server through the gateway, calibrates, predicts what was left out, and prices it. Started by
`run`."""

import argparse
import contextlib
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE.parents[1] / "bench")]
import ledger
import load
import predictions
import sheets
from farthing import Gateway
from page import Others
from services import Service, cpu_seconds, free_port, stop_on_sigterm

# What is measured. What is predicted was chosen before anything was measured: one between, one beyond.
CALIBRATED = [1, 2, 4, 12]
LEFT_OUT = [8, 16]
EACH, OUTPUT_TOKENS = 2, 48
# A prediction is right within this, or within twice the spread of the repeats if that is more.
TOLERANCE = 0.15


def serve(stack, folder, options):
    """The model server on all processors but the last, and the gateway before it on the last. Returns the gateway's address,
    its data directory, and the model server."""
    processors = sorted(os.sched_getaffinity(0))
    threads = sheets.threads()
    port = free_port()
    command = ["taskset", "-c", ",".join(map(str, processors[:threads]))]
    command += [options.server, "-m", options.model, "--alias", sheets.MODEL, "--host", "127.0.0.1", "--port", port]
    command += ["-t", threads, "-tb", threads, "-np", sheets.SLOTS, "-b", sheets.BATCH, "-c", sheets.SLOTS * 512, "--no-webui"]
    # Without the first, sequences whose slots are not neighbours are computed apart.
    command += ["--kv-unified", "--cache-ram", "0"]
    server = Service("llama-server", command, f"http://127.0.0.1:{port}/health", folder / "llama.log", seconds=120)
    stack.enter_context(server)

    os.sched_setaffinity(0, processors[-1:])
    gateway = Gateway(options.farthing, folder, f"""
[upstreams.machine]
kind = "llama_cpp"
base_url = "http://127.0.0.1:{port}/v1"
hourly_cost = "{options.hour}"
""")
    stack.enter_context(gateway.service)
    return gateway.address, gateway.data_dir, server


def measure(gateway, server, runs):
    """Runs of all concurrencies in turn, so that what disturbs the machine disturbs all of them. Returns the share of the
    machine that other processes took and, of each run, the share of its time in which the server ran."""
    number, others, shares = 0, Others(), {}
    for run in range(runs + 1):
        # The first is for warming up, and has no tag.
        order = CALIBRATED + LEFT_OUT if run else [1, 4]
        random.Random(run).shuffle(order)
        started = time.monotonic()
        for clients in order:
            route = f"c{clients}" if run else "warm"
            labels = {"route": route, **({"tag-run": str(run)} if run else {})}
            before = time.monotonic(), cpu_seconds(server.process.pid)
            load.closed_loop(gateway, labels, clients, EACH, OUTPUT_TOKENS, number)
            wall, ran = time.monotonic() - before[0], cpu_seconds(server.process.pid) - before[1]
            shares[route, str(run)] = min(1.0, ran / wall / sheets.threads())
            number += clients * EACH
        print(f"live-loop: {f'run {run} of {runs}' if run else 'warmed up'}, {time.monotonic() - started:.0f} s", file=sys.stderr)
    return others.share(), shares


def table(head, rows):
    """Columns side by side, all but the first to the right."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    cells = lambda line: [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
    return "\n".join("  ".join(cells(line)).rstrip() for line in lines)


def judge(points, predicted):
    """The rows of a table and how many predictions are wrong."""
    rows, wrong = [], 0
    for point in points:
        for name, unit, factor, of in [("output tokens/s", "", 1, "throughput"), ("TPOT", " ms", 1e3, "tpot")]:
            measured, told = getattr(point, of), getattr(predicted[point.concurrency], of)
            error = told / measured.median - 1
            bound = max(TOLERANCE, 2 * measured.spread)
            left_out = point.concurrency in LEFT_OUT
            good = abs(error) <= bound
            wrong += left_out and not good
            verdict = ("closed" if good else "MISSED") if left_out else "fitted"
            figure = lambda value: f"{value * factor:,.1f}{unit}"
            rows.append([
                f"{point.concurrency} clients, {name}", figure(measured.median), f"{measured.spread:.1%}", figure(told),
                f"{error:+.1%}", f"{bound:.1%}" if left_out else "", verdict,
            ])
    return rows, wrong


def costs(points, seen, booked, simulated):
    """What a million output tokens cost: by the ledger, whose hours they ran in, and by the simulation."""
    rows = []
    for point in points:
        own = [name for name, run in seen.items() if run.concurrency == point.concurrency]
        tokens = sum(seen[name].output_tokens for name in own)
        by_ledger = sum(booked[name] for name in own) / tokens * 1e6
        modelled = simulated[point.concurrency] / tokens * 1e6
        kind = "left out" if point.concurrency in LEFT_OUT else "fitted"
        rows.append([f"{point.concurrency} clients, {kind}", f"{tokens:,}", f"${by_ledger:.3f}", f"${modelled:.3f}", f"{modelled / by_ledger - 1:+.1%}"])
    return rows


def main():
    arguments = argparse.ArgumentParser(prog="scripts/live-loop/run", description=__doc__)
    arguments.add_argument("--farthing", required=True, help=argparse.SUPPRESS)
    arguments.add_argument("--server", required=True, help=argparse.SUPPRESS)
    arguments.add_argument("--model", required=True, help=argparse.SUPPRESS)
    arguments.add_argument("--runs", type=int, default=5, help="runs of which the medians are taken [5]")
    arguments.add_argument("--hour", default="0.10", help="what the machine costs by the hour, in US dollars [0.10]")
    arguments.add_argument("--shared", action="store_true", help="others use the machine: count only the time in which the server ran")
    arguments.add_argument("--keep", type=pathlib.Path, help="put points, sheets and fit into this folder")
    options = arguments.parse_args()
    stop_on_sigterm()

    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="live-loop-")))
        own_sheets = sheets.write(folder, sheets.threads())
        gateway, data_dir, server = serve(stack, folder, options)
        others, shares = measure(gateway, server, options.runs)
        seen = ledger.runs(options.farthing, data_dir)
        booked = ledger.hosted_costs(options.farthing, data_dir)
        if options.shared:
            seen = {name: run.scaled(shares[name]) for name, run in seen.items()}
            booked = {name: usd * shares.get(name, 1) for name, usd in booked.items()}
        expected = {(f"c{clients}", str(run)): clients * EACH for clients in CALIBRATED + LEFT_OUT for run in range(1, options.runs + 1)}
        found = {name: one.requests for name, one in seen.items()}
        if found != expected:
            raise RuntimeError(f"the journal has other runs than were made: {found}")
        points = {clients: ledger.Point.of(clients, seen) for clients in sorted(CALIBRATED + LEFT_OUT)}
        fitted = [points[clients] for clients in sorted(CALIBRATED)]
        all_sheets = predictions.calibrate(options.farthing, folder, own_sheets, fitted)
        predicted = predictions.predict(options.farthing, folder, all_sheets, points.values())
        simulated = {}
        for clients in points:
            requests = [one for run in seen.values() if run.concurrency == clients for one in run.arrivals]
            simulated[clients] = predictions.simulated_cost(options.farthing, folder, all_sheets, requests, options.hour)
        if options.keep:
            shutil.copytree(folder, options.keep, dirs_exist_ok=True, ignore=shutil.ignore_patterns("farthing-data"))

    points = list(points.values())
    rows, wrong = judge(points, predicted)
    print(f"{sheets.MODEL} on llama-server ({sheets.threads()} threads), prompts of {points[0].isl} and replies of {OUTPUT_TOKENS} tokens, "
          f"medians of {options.runs} runs; other processes took {others:.0%} of the machine"
          f"{', so times are those in which the server ran' if options.shared else ''}\n")
    print(table(["", "measured", "spread", "predicted", "error", "allowed", ""], rows))
    print(f"\nUSD per million output tokens at ${options.hour} an hour, while busy\n")
    print(table(["", "tokens", "ledger", "simulated", "error"], costs(points, seen, booked, simulated)))
    print(f"\n{'the loop is closed' if not wrong else f'{wrong} predictions missed'}: {', '.join(map(str, LEFT_OUT))} clients predicted "
          f"from {', '.join(map(str, CALIBRATED))}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
