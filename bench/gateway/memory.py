"""Memory while a thousand streams are open."""

import pathlib
import re
import subprocess
import sys
import time

from page import number, table
from services import descendants

STREAMS = 1_000
# They take 30 s; asked in between, when all of them are open.
ASKED_AFTER_SECONDS = 15
MIB = 1 << 20


def measured(start, names, _options):
    rows = []
    for name in names:
        if name == "direct":
            continue
        print(f"{STREAMS} open streams: {name}", file=sys.stderr)
        # Started for this alone: what a load before has left behind is not counted.
        stand = start([name], pinned=False)
        target = stand.targets[0]
        stand.load("clients", target, "paced", 1, 0)
        before, _ = memory(target)
        # No connection sends a second request.
        command = stand.command("clients", target, "slow", STREAMS, 0)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
            time.sleep(ASKED_AFTER_SECONDS)
            during, _ = memory(target)
            output = load.stdout.read()
        stand.checked(target, output, f"{STREAMS} open streams")
        stand.check_bill()
        _, most = memory(target)
        rows.append([name, *(number(value / MIB) for value in (before, during, most))])
    head = ["through", ">after one stream, MiB", f">with {STREAMS:,} open, MiB", ">at most, MiB"]
    return table(head, rows), "Resident memory, summed over a target's processes."


def memory(target):
    """Bytes that a target's processes have in memory now, and the sum of what each had at most."""
    now, most = 0, 0
    for process in descendants(target.service.process.pid):
        status = pathlib.Path(f"/proc/{process}/status").read_text()
        now += int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) << 10
        most += int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10
    return now, most
