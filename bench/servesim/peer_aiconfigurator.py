"""aiconfigurator's estimates for measured rows: run by `peers` with the Python that has it. A JSON object for each
row comes on stdin, and one for each estimate goes to stdout: times in milliseconds, or why there is none."""

import contextlib
import json
import logging
import sys
import time

from aiconfigurator.cli.api import cli_estimate

logging.disable(logging.CRITICAL)
for line in sys.stdin:
    row = json.loads(line)
    started = time.process_time()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            told = cli_estimate(row.pop("model_path"), row.pop("system_name"), **row)
        answer = {"tpot_ms": float(told.tpot), "ttft_ms": float(told.ttft)}
    except (Exception, SystemExit) as error:  # whatever it is, it is no estimate
        answer = {"why_not": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    answer["cpu_seconds"] = time.process_time() - started
    print(json.dumps(answer), flush=True)
