"""Dynamo's mocker on a trace, in the CPU time of its process: run by `peers` with the Python that has it.

    peer_mocker.py TRACE.csv KV_BLOCKS MAX_SEQS TOKEN_BUDGET
"""

import csv
import datetime
import json
import sys
import tempfile
import time

from dynamo._core import run_mocker_trace_replay

BLOCK = 512


def main():
    trace, kv_blocks, max_seqs, budget = sys.argv[1], *map(int, sys.argv[2:])
    with open(trace) as file, tempfile.NamedTemporaryFile("w", suffix=".jsonl") as lines:
        first, block = None, 0
        for count, row in enumerate(csv.DictReader(file), 1):
            at = datetime.datetime.fromisoformat(row["TIMESTAMP"][:26])
            first = first or at
            # No prompt shares a prefix with another: every block has a hash of its own.
            prompt = int(row["ContextTokens"])
            own = range(block, block := block + -(-prompt // BLOCK))
            request = {"timestamp": (at - first).total_seconds() * 1e3, "input_length": prompt,
                       "output_length": int(row["GeneratedTokens"]), "hash_ids": list(own)}
            print(json.dumps(request), file=lines)
        lines.flush()
        engine = {
            "backend": "vllm", "num_gpu_blocks": kv_blocks, "block_size": 16, "max_num_seqs": max_seqs,
            "max_num_batched_tokens": budget, "enable_prefix_caching": False,
        }
        started = time.process_time()
        report = run_mocker_trace_replay([lines.name], {"engine": engine}, trace_block_size=BLOCK, capture_planner_details=False)
        spent = time.process_time() - started
    report = report.summary
    print(json.dumps({"requests": count, "completed": report["completed_requests"], "cpu_seconds": spent}))


main()
