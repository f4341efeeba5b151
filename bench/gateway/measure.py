"""Runs the load against every target in turn and makes the tables. Started by `run`."""

import argparse
import collections
import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile

import arrivals
import closed
import memory
import targets
from farthing import ask
from page import Others, surroundings, write
from services import cpu_seconds, stop_on_sigterm

PARTS = {"closed": closed, "arrivals": arrivals, "memory": memory}


class BadReplies(Exception):
    pass


class Stand:
    """The upstream and the targets, running, and how many replies each has given."""

    def __init__(self, stack, names, pinned):
        self.folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-")))
        self.pinned = pinned
        self.sent = collections.Counter()
        to, service = targets.upstream(self.folder, self.load_on)
        stack.enter_context(service)
        self.targets = [targets.start(stack, name, self.folder, to, self.target_on) for name in names]

    @property
    def load_on(self):
        return targets.CORES[0] if self.pinned else None

    @property
    def target_on(self):
        return targets.CORES[-1] if self.pinned else None

    def command(self, kind, target, shape, load, seconds):
        command = [targets.LOAD, kind, target.address, shape, load, seconds, targets.MODEL, *target.headers]
        return targets.on(self.load_on, [str(part) for part in command])

    def load(self, kind, target, shape, load, seconds):
        """The load's own result, with the CPU time that the target took for it."""
        pid = target.service and target.service.process.pid
        before = cpu_seconds(pid) if pid else 0
        command = self.command(kind, target, shape, load, seconds)
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return self.checked(target, output, f"{kind}, {shape}, {load}") | {
            "cpu_seconds": cpu_seconds(pid) - before if pid else 0
        }

    def checked(self, target, output, what):
        result = json.loads(output)
        self.sent[target.name] += result["replies"]
        if result["errors"] or not result["replies"]:
            raise BadReplies(
                f"{target.name}, {what}: {result['errors']} bad replies besides {result['replies']} good ones; "
                f"the first: {result['first_error']}"
            )
        return result

    def check_bill(self):
        """The meter was on, and missed nothing: every reply that was measured is in the bill, with a price."""
        if not self.sent["farthing"]:
            return
        [data_dir] = [target.data_dir for target in self.targets if target.name == "farthing"]
        bill = json.loads(ask(targets.FARTHING, data_dir, "bill", "--by", "route", "--json"))
        exchanges, unpriced = bill["total"]["exchanges"], bill["total"]["unpriced_attempts"]
        sent = self.sent["farthing"]
        print(f"farthing: {sent:,} replies checked, {exchanges:,} exchanges in the bill, {unpriced:,} of them unpriced")
        if exchanges != sent or unpriced:
            raise BadReplies("the bill does not hold what was sent")


def main():
    arguments = argparse.ArgumentParser(prog="bench/gateway/run", description=__doc__)
    arguments.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all if none is named")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=float, default=3, help="length of one measurement")
    arguments.add_argument("--targets", default=",".join(targets.TARGETS), help="which, in which order")
    arguments.add_argument("--write", action="store_true", help="put the tables into bench/README.md")
    options = arguments.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        arguments.error(f"expected parts of {', '.join(PARTS)}, found {', '.join(unknown)}")
    names = options.targets.split(",")
    stop_on_sigterm()

    versions = ", ".join(filter(None, map(targets.version, names)))
    for part in options.parts or PARTS:
        others = Others()
        with contextlib.ExitStack() as stack:
            text, how = PARTS[part].measured(lambda names, pinned: Stand(stack, names, pinned), names, options)
        text = f"{text}\n\n{surroundings(versions, others)} {how}"
        print(text)
        if options.write:
            write(part, text)


if __name__ == "__main__":
    try:
        main()
    except BadReplies as error:
        sys.exit(str(error))
