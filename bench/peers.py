"""Programs that Farthing is compared with, from PyPI, each in an environment of its own in the user's cache directory."""

import os
import pathlib
import subprocess
import sys

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "farthing" / "bench"
PACKAGES = {"ai-dynamo-runtime": "1.6.1", "aiconfigurator": "0.12.0"}


def install(package):
    """The Python that has a package, or why there is none."""
    folder = CACHE / f"{package}-{PACKAGES[package]}"
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python, None
    print(f"peers: installing {package} into {folder}", file=sys.stderr)
    commands = [[sys.executable, "-m", "venv", "--clear", folder], [python, "-m", "pip", "install", "-q", f"{package}=={PACKAGES[package]}"]]
    for command in commands:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode:
            return None, f"cannot be installed: {last_line(done.stderr)}"
    (folder / "complete").touch()
    return python, None


def last_line(text):
    return (text.strip().splitlines() or ["no reason told"])[-1][:160]
