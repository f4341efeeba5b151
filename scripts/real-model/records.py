"""What farthing knows of the calls: its journal and its bill, both read by the program itself while the
gateway is still writing."""

import collections
import json
import subprocess

from usage import Usage

# One attempt in the journal: `usage` is `None` if it is unknown, `source` says where it comes from,
# `end` how the attempt ended.
Attempt = collections.namedtuple("Attempt", "usage source end")


def run(farthing, *arguments, data_dir):
    command = [farthing, *arguments, "--data-dir", str(data_dir)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def journal(farthing, data_dir):
    """The attempts of each route."""
    raise NotImplementedError


def bill(farthing, data_dir):
    """Exchanges and usage of each route."""
    raise NotImplementedError
