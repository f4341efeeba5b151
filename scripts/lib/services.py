"""Servers for the length of a `with` block: started, waited for, and stopped whatever happens."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

# A server that has not ended this long after SIGTERM is killed.
STOP_SECONDS = 15


def free_port():
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url, headers=None, seconds=5):
    """The body of a 200 answer, as text; any other status is an `HTTPError`."""
    request = urllib.request.Request(url, headers=headers or {})
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        return answer.read().decode()


def wait_until(ready, seconds, what):
    """Asks `ready` until it is true; `what` says in the error what did not happen."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.05)


class Service:
    """A server process of our own, in a process group of its own.

    Its output goes to `log`; the end of it is shown when the server does not start.
    """

    def __init__(self, name, command, url, log, seconds=60, environment=None):
        self.name, self.url, self.log, self.seconds = name, url, pathlib.Path(log), seconds
        self.command = [str(part) for part in command]
        self.environment = {**os.environ, **(environment or {})}

    def __enter__(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )
        try:
            wait_until(self._answers, self.seconds, f"{self.name} answers on {self.url}")
        except BaseException:
            self.__exit__()
            tail = self.log.read_text(errors="replace").splitlines()[-20:]
            print(f"{self.name} did not start; the end of its log:", *tail, sep="\n  ", file=sys.stderr)
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"{self.name} did not stop within {STOP_SECONDS} s: killed", file=sys.stderr)
        # Whatever the server itself has started and left behind.
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _answers(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with status {self.process.returncode}")
        try:
            get(self.url)
        except urllib.error.HTTPError:
            return False  # it listens, and is not ready
        except OSError:
            return False
        return True

    def _signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass


def stop_on_sigterm():
    """Lets SIGTERM unwind the `with` blocks, as Ctrl-C does."""

    def stop(*_):
        raise SystemExit("stopped by SIGTERM")

    signal.signal(signal.SIGTERM, stop)


def cpu_seconds(pid):
    """User and system time of a process and of all its living descendants, since they started."""
    return sum(ticks for _, ticks in _family(pid)) / os.sysconf("SC_CLK_TCK")


def descendants(pid):
    """The process and all its living descendants."""
    return [process for process, _ in _family(pid)]


def _family(pid):
    """The process and its living descendants, each with the clock ticks it has run."""
    parents, ticks = {}, {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = pathlib.Path("/proc", entry, "stat").read_text()
        except OSError:
            continue  # it ended while we were looking
        # The name in parentheses may hold anything, so count fields from its end.
        fields = text.rpartition(")")[2].split()
        parents[int(entry)] = int(fields[1])
        ticks[int(entry)] = int(fields[11]) + int(fields[12])

    def belongs(process):
        while process not in (0, pid):
            process = parents.get(process, 0)
        return process == pid

    return [(process, ticks[process]) for process in ticks if belongs(process)]
