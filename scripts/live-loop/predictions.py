"""What farthing predicts of this machine: calibrated to some of the points, told of all of them."""

import csv
import dataclasses
import datetime
import json
import subprocess

import ledger
import sheets


@dataclasses.dataclass(frozen=True)
class Predicted:
    throughput: float
    tpot: float


def calibrate(farthing, folder, own_sheets, points):
    """Fits the serving model to these points; the fit is one more sheet."""
    given = folder / "calibrated.csv"
    ledger.write_points(given, points, _facts())
    fit = folder / "fit.txt"
    print(_run(farthing, "calibrate", given, *_sheets(own_sheets), "--out", fit))
    return [*own_sheets, fit]


def predict(farthing, folder, all_sheets, points):
    """What `farthing validate` says of each of the points, by concurrency."""
    given, out = folder / "points.csv", folder / "predicted.csv"
    ledger.write_points(given, points, _facts())
    _run(farthing, "validate", given, *_sheets(all_sheets), "--out", out)
    predicted = {}
    with open(out, newline="") as file:
        for row in csv.DictReader(file):
            if row["why_not"]:
                raise RuntimeError(f"{row['concurrency_or_rate']} is not predicted: {row['why_not']}")
            clients = int(row["concurrency_or_rate"].removeprefix("conc="))
            predicted[clients] = Predicted(
                float(row["throughput_output_tok_s_predicted"]), float(row["tpot_ms_predicted"]) / 1e3
            )
    return predicted


def simulated_cost(farthing, folder, all_sheets, requests, hour):
    """US dollars of the time in which `farthing simulate` is busy with requests that arrived as they were metered."""
    setup = ["--model", sheets.MODEL, "--gpu", sheets.ACCELERATOR, "--engine", sheets.ENGINE, "--weights", sheets.WEIGHTS]
    told = simulate(farthing, folder, [*setup, *_sheets(all_sheets), "--gpu-hour", hour], requests)
    return sum(float(told["gpu_time"][part]["modelled_usd"]) for part in ["input", "output"])


def simulate(farthing, folder, setup, requests):
    """What `farthing simulate` tells of requests, each with its time and its tokens of prompt and reply."""
    trace = folder / "trace.csv"
    with open(trace, "w") as file:
        print("TIMESTAMP,ContextTokens,GeneratedTokens", file=file)
        for at, prompt, reply in sorted(requests):
            at = datetime.datetime.fromtimestamp(at, datetime.timezone.utc)
            print(f"{at:%Y-%m-%d %H:%M:%S.%f}0,{prompt},{reply}", file=file)
    told = json.loads(_run(farthing, "simulate", *setup, "--trace", trace, "--json"))
    if told["requests"]["completed"] != len(requests):
        raise RuntimeError(f"{told['requests']['completed']} of {len(requests)} requests completed in the simulation")
    return told


def _facts():
    return {
        "source": "scripts/live-loop",
        "commit_or_date": f"{datetime.date.today()}",
        "model": sheets.MODEL,
        "quantization": sheets.WEIGHTS,
        "gpu": sheets.ACCELERATOR,
        **dict.fromkeys(["n_gpus", "tp", "pp", "ep", "dp"], "1"),
        "engine": sheets.ENGINE,
    }


def _sheets(files):
    return [part for file in files for part in ("--sheet", file)]


def _run(farthing, *arguments):
    command = list(map(str, [farthing, *arguments]))
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
