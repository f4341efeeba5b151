"""What the benches have in common: how figures are written, where they came about, and the page for them."""

import os
import pathlib
import platform
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "bench" / "README.md"
sys.path.insert(0, str(ROOT / "scripts" / "lib"))
from services import cpu_seconds  # noqa: E402


def table(head, rows):
    """A Markdown table; columns whose name begins with `>` are aligned to the right."""
    names = [name.removeprefix(">") for name in head]
    rules = ["--:" if name.startswith(">") else "---" for name in head]
    lines = [names, rules, *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def number(value):
    if value is None:
        return ""
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


def commit():
    """Asked before anything is measured: somebody may commit meanwhile."""
    describe = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    asked = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True)
    return f"farthing at {asked.stdout.strip() or 'an unknown commit'}"


def surroundings(versions, others):
    """Where and with what the figures came about."""
    processor = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    rust = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.split()[1]
    return (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {os.cpu_count()} cores "
        f"({processor[1] if processor else platform.machine()}), Linux {platform.release()}, of which other "
        f"processes took {others.share():.0%} of the CPU time. {versions}; Rust {rust}."
    )


def write(name, text):
    """Puts a text between the marks of that name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page = PAGE.read_text()
    before, rest = page.split(begin)
    after = rest.split(end)[1]
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}")
