"""Drives the real server with the official clients and compares everybody's token counts. Started by
`run`.

The server's own counters are the measure: the server is idle before and after each step, so their
difference is what the step's calls really used. Each step has a route of its own, so the journal and
the bill can be asked for exactly that step.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import sys
import tempfile
import time
import typing

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import clients
import records
from farthing import Gateway
from services import Service, free_port, get, stop_on_sigterm, wait_until
from usage import Usage, total

SERVED = "gemma-3-270m"
# A name that only the gateway knows, so that its calls also prove the mapping of names.
MAPPED = "house-model"
SLOTS = 32
IDLE_SECONDS = 120


@dataclasses.dataclass
class Step:
    route: str
    calls: typing.Callable
    # Otherwise the difference is shown, and not judged: nobody is told what an aborted call used.
    exact: bool = True
    # Whether it asks for the name that only the gateway knows.
    mapped: bool = True
    needs_gateway: bool = False


STEPS = [
    Step("openai-unary", clients.openai_unary),
    Step("openai-stream", clients.openai_stream),
    Step("openai-stream-without-usage", clients.openai_stream_without_usage),
    Step("openai-look-up", clients.openai_look_up, needs_gateway=True),
    Step("openai-32-at-once", clients.openai_at_once),
    Step("anthropic-unary", clients.anthropic_unary),
    Step("anthropic-stream", clients.anthropic_stream),
    Step("anthropic-count-tokens", clients.anthropic_count_tokens),
    Step("node-unary", clients.node("unary"), mapped=False),
    Step("node-stream", clients.node("stream"), mapped=False),
    Step("node-stream-without-usage", clients.node("streamWithoutUsage"), mapped=False),
    Step("openai-embeddings", clients.openai_embeddings, exact=False),
    Step("openai-hang-up", clients.openai_hang_up, exact=False),
    Step("anthropic-hang-up", clients.anthropic_hang_up, exact=False),
    Step("node-hang-up", clients.node("hangUp"), exact=False),
]


@dataclasses.dataclass
class Row:
    """One step's outcome; what could not be had is `None`."""

    step: Step
    calls: int = 0
    server: Usage | None = None
    client: Usage | None = None
    journal: Usage | None = None
    bill: Usage | None = None
    problem: str | None = None


class Server:
    """llama.cpp's server, and its counters."""

    def __init__(self, folder):
        self.address = f"http://127.0.0.1:{free_port()}"
        host, port = self.address.removeprefix("http://").split(":")
        command = [os.environ["FARTHING_REAL_SERVER"], "-m", os.environ["FARTHING_REAL_MODEL"], "--alias", SERVED]
        command += ["--host", host, "--port", port, "--metrics", "--slots", "--no-webui"]
        command += ["-t", os.cpu_count(), "-np", SLOTS, "-c", SLOTS * 512, "--embeddings", "--pooling", "mean"]
        self.service = Service("llama-server", command, f"{self.address}/health", folder / "llama.log", seconds=120)

    def counters(self):
        return {name: int(float(value)) for name, value in
                re.findall(r"^llamacpp:(\w+) (\S+)$", get(f"{self.address}/metrics"), re.M)}

    def used_so_far(self):
        wait_until(self._idle, IDLE_SECONDS, "llama-server is idle")
        now = self.counters()
        return Usage(now["prompt_tokens_total"], now["prompt_tokens_cached_total"], now["tokens_predicted_total"])

    def _idle(self):
        now = self.counters()
        slots = json.loads(get(f"{self.address}/slots"))
        waiting = now["requests_processing"] + now["requests_deferred"]
        return waiting == 0 and not any(slot["is_processing"] for slot in slots)


def gateway_before(folder, server):
    """A gateway in front of the server."""
    return Gateway(os.environ["FARTHING_REAL_FARTHING"], folder, f"""
[upstreams.local]
kind = "llama_cpp"
base_url = "{server.address}/v1"

[models."{MAPPED}"]
upstream = "local"
model = "{SERVED}"
""")


def take(step, server, gateway):
    """Runs one step, with the server idle before and after."""
    row = Row(step)
    before = server.used_so_far()
    try:
        base = f"{gateway.address}/r/{step.route}" if gateway else server.address
        told = step.calls(base, MAPPED if gateway and step.mapped else SERVED)
        row.calls = len(told)
        row.client = total(told) if None not in told else None
    except Exception as error:  # any failure of a client is a finding, and the other steps still count
        row.problem = f"{type(error).__name__}: {error}"
    row.server = server.used_so_far() - before
    if row.client is not None and row.client != row.server:
        row.problem = row.problem or ("the client was told otherwise" if step.exact else None)
    return row


def compare(rows, gateway):
    """Adds what the journal and the bill say to every row, and judges it."""
    attempts = records.journal(gateway.program, gateway.data_dir)
    bill = records.bill(gateway.program, gateway.data_dir)
    for row in rows:
        route, own = row.step.route, attempts.get(row.step.route, [])
        known = [attempt.usage for attempt in own if attempt.usage is not None]
        row.journal = total(known)
        exchanges, row.bill = bill.get(route, (0, Usage()))
        row.problem = row.problem or judge(row, own, len(known), exchanges)


def judge(row, attempts, known, exchanges):
    if len(attempts) != row.calls:
        return f"{row.calls} calls, {len(attempts)} attempts in the journal"
    # Counting tokens is no use of a model, so the bill leaves it out.
    billed = 0 if "count-tokens" in row.step.route else row.calls
    if row.bill != row.journal or exchanges != billed:
        return "the bill differs from the journal"
    if row.step.exact:
        if known != row.calls:
            return "an attempt's usage is unknown"
        return None if row.journal == row.server else "the journal differs from the server"
    if "hang-up" in row.step.route:
        # Anthropic's streams begin with the input's usage, so only the output is estimated there.
        if any(attempt.source not in ("estimated", "partial") for attempt in attempts):
            return "an aborted call's usage is not called an estimate"
        if any(attempt.end != "client_gone" for attempt in attempts):
            return "an aborted call is not called aborted"
        if all("lower_bound" in attempt.doubts for attempt in attempts):
            if row.journal.output > row.server.output:
                return "the estimate is above what the server did, so it is no lower bound"
        elif not row.server.output <= 2 * row.journal.output <= 4 * row.server.output:
            return "the learned estimate is off by more than a factor of two"
    return None


def table(rows, gateway):
    heads = ["step", "calls", "server", "client"] + (["journal", "bill", "server - journal"] if gateway else []) + ["verdict"]
    lines = [heads]
    for row in rows:
        cells = [row.step.route, row.calls, row.server, row.client]
        if gateway:
            cells += [row.journal, row.bill, row.server - row.journal]
        compared = gateway or row.client is not None
        cells.append(row.problem or ("equal" if row.step.exact and compared else "shown"))
        lines.append(["-" if cell is None else str(cell) for cell in cells])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def main():
    arguments = argparse.ArgumentParser(prog="scripts/real-model/run", description=__doc__)
    arguments.add_argument("--direct", action="store_true", help="without farthing: proves server and clients")
    options = arguments.parse_args()
    stop_on_sigterm()

    rows = []
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="real-model-")))
        server = Server(folder)
        stack.enter_context(server.service)
        gateway = None if options.direct else gateway_before(folder, server)
        if gateway:
            stack.enter_context(gateway.service)
        for step in STEPS:
            if step.needs_gateway and not gateway:
                continue
            started = time.monotonic()
            rows.append(take(step, server, gateway))
            print(f"{step.route}: {time.monotonic() - started:.1f} s", file=sys.stderr)
        if gateway:
            compare(rows, gateway)
            print("journal:", records.check(gateway.program, gateway.data_dir))

    print("tokens are input uncached / cached / output\n")
    print(table(rows, gateway))
    problems = sum(row.problem is not None for row in rows)
    print(f"\n{len(rows) - problems} of {len(rows)} steps as they should be")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
