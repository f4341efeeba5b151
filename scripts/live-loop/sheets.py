"""Data sheets of what stands here: this machine's processor as an accelerator, and llama.cpp's server as an engine."""

import os
import pathlib
import re
import time

ACCELERATOR, ENGINE, MODEL = "this-processor", "llama-server", "gemma-3-270m"
# Q4_K_M keeps most matrices in blocks of four bits.
WEIGHTS = "int4"
SLOTS, BATCH = 32, 2048
# Two units that each multiply and add eight floats at a time: what AVX2 does in a clock.
FLOPS_PER_CLOCK = 2 * 2 * 8
# About what the model has, so that it is where the weights are: in a cache, if that is large.
COPIED_BYTES = 256 << 20


def write(folder, threads):
    """The sheets' files."""
    sheets = {"processor.txt": _processor(threads), "llama-server.txt": _server()}
    for name, text in sheets.items():
        (folder / name).write_text(text)
    return [folder / name for name in sheets]


def _processor(threads):
    processor = pathlib.Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*: (.*)", processor)[1].strip()
    clock = float(re.search(r"cpu MHz\s*: (.*)", processor)[1]) * 1e6
    memory = int(re.search(r"MemTotal:\s*(\d+) kB", pathlib.Path("/proc/meminfo").read_text())[1])
    return f"""\
accelerator {ACCELERATOR}
  source /proc/cpuinfo: {name}, {threads} threads
  hbm_gib {memory / (1 << 20):.3g} ; /proc/meminfo
  hbm_gb_s {threads * _bandwidth() / 1e9:.3g} ; measured: one thread copies {COPIED_BYTES >> 20} MiB, for each thread
  bf16_tflops {threads * clock * FLOPS_PER_CLOCK / 1e12:.3g} ; {clock / 1e6:.0f} MHz x {FLOPS_PER_CLOCK} operations of AVX2 a clock, for each thread
"""


def _bandwidth():
    """Bytes that a copy reads and writes in a second; the best of several, as others only slow it down."""
    source, target = bytearray(COPIED_BYTES), bytearray(COPIED_BYTES)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        target[:] = source
        times.append(time.perf_counter() - start)
    return 2 * COPIED_BYTES / min(times)


def _server():
    # Each turn of its loop takes a token of every slot that generates, then of prompts what fits the batch:
    # what this project calls a mixed step with a budget of tokens.
    return f"""\
engine {ENGINE}
  source llama.cpp tools/server/server.cpp, update_slots
  token_budget {BATCH} ; -b
  max_seqs {SLOTS} ; -np
  block_tokens 1
  memory_fraction 1
  mixes 1
  graph_tokens 0
  step_us 13000 ; where the calibration begins: earlier bursts on other processors took 13.2 ms a step and 6.5 ms a sequence
  sequence_us 1000 ; where the calibration begins, assumed: a sampler goes through 262,144 logits
  activation_gib 0.5 ; assumed, and far from what limits it
  other_gib 0
"""


def threads():
    """All processors but the last, which is for the gateway and its clients."""
    return max(1, len(os.sched_getaffinity(0)) - 1)
