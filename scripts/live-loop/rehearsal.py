"""A load on `farthing simulated`, metered through the gateway, beside what `farthing simulate` predicts for the very
requests that the ledger saw. Started by `run --rehearsal`."""

import argparse
import contextlib
import http.client
import json
import pathlib
import random
import statistics
import sys
import tempfile
import threading
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "lib")]
import ledger
import predictions
from farthing import Gateway
from loop import table
from services import Service, free_port, stop_on_sigterm

SETUP = ["--model", "qwen3-32b", "--gpu", "h100", "--tp", "2"]
PER_SECOND = 4
# Timers are as coarse as a millisecond, and this machine has other things to do than to look at the clock.
SLACK, TOLERANCE = 0.010, 0.05


def ask(address, prompt, reply, failures):
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc, timeout=300)
    # A token is four bytes.
    text = f"[[sim output={reply}]]".ljust(4 * prompt, "x")
    body = {"model": "qwen3-32b", "stream": True, "messages": [{"role": "user", "content": text}]}
    headers = {"content-type": "application/json", "x-farthing-route": "c1", "x-farthing-tag-run": "1"}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200 or not answer.read().rstrip().endswith(b"data: [DONE]"):
            raise RuntimeError(f"status {answer.status}, or a reply that is not whole")
    except Exception as error:  # told by the thread that waits
        failures.append(error)
    finally:
        connection.close()


def load(address, requests):
    """Requests at random, whether or not replies come."""
    chance, threads, failures, due = random.Random(1), [], [], time.monotonic()
    for _ in range(requests):
        due += chance.expovariate(PER_SECOND)
        prompt, reply = chance.randint(200, 3000), chance.randint(20, 200)
        time.sleep(max(0.0, due - time.monotonic()))
        thread = threading.Thread(target=ask, args=(address, prompt, reply, failures))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def main():
    arguments = argparse.ArgumentParser(prog="scripts/live-loop/run --rehearsal", description=__doc__)
    arguments.add_argument("--farthing", required=True, help=argparse.SUPPRESS)
    arguments.add_argument("--requests", type=int, default=200, help="how many [200]")
    options = arguments.parse_args()
    stop_on_sigterm()
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rehearsal-")))
        port = free_port()
        # The predictions are of prompts that have nothing in common.
        command = [options.farthing, "simulated", *SETUP, "--no-prefix-caching", "--listen", f"127.0.0.1:{port}"]
        stack.enter_context(Service("farthing simulated", command, f"http://127.0.0.1:{port}/v1/models", folder / "model.log"))
        gateway = Gateway(options.farthing, folder, f"""
[upstreams.rented]
kind = "vllm"
base_url = "http://127.0.0.1:{port}/v1"
hourly_cost = "5.38"
""")
        stack.enter_context(gateway.service)
        load(gateway.address, options.requests)
        [run] = ledger.runs(options.farthing, gateway.data_dir).values()
        told = predictions.simulate(options.farthing, folder, SETUP, run.arrivals)
    rows, wrong = [], 0
    seconds = lambda name, which: told["latency"][name][which] / 1e9
    for name, metered, predicted in [
        ("TTFT, mean", statistics.mean(run.ttfts), seconds("ttft", "mean_ns")),
        ("TTFT, median", statistics.median(run.ttfts), seconds("ttft", "p50_ns")),
        ("TPOT, mean", statistics.mean(run.tpots), seconds("tpot", "mean_ns")),
        ("TPOT, median", statistics.median(run.tpots), seconds("tpot", "p50_ns")),
        ("whole reply, mean", statistics.mean(run.latencies), seconds("end_to_end", "mean_ns")),
        ("whole reply, median", statistics.median(run.latencies), seconds("end_to_end", "p50_ns")),
    ]:
        good = abs(metered - predicted) <= max(TOLERANCE * predicted, SLACK)
        wrong += not good
        rows.append([name, f"{metered * 1e3:,.1f} ms", f"{predicted * 1e3:,.1f} ms", f"{metered / predicted - 1:+.1%}", "agrees" if good else "DIFFERS"])
    print(f"{' '.join(SETUP)}: {options.requests} requests, {PER_SECOND} a second, through the gateway\n")
    print(table(["", "metered", "simulated", "difference", ""], rows))
    print(f"\nallowed: {TOLERANCE:.0%}, or {SLACK * 1e3:.0f} ms")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
