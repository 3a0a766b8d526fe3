"""One contestant in a process of its own, which answers requests in lines of JSON.

    echo '{"module": "keras_blocks", "name": "Matmul", "arguments": {"m": 9, "k": 9, "n": 9}, "limit": 4e9}' |
        python benchmarks/worker.py

The first line says what to build; every other one names a function below and its arguments.
"""

import ctypes
import gc
import importlib
import json
import os
import pathlib
import re
import resource
import sys
import time

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # oneDNN's kernels, off by default on CPUs without AVX-512

TICKS = os.sysconf("SC_CLK_TCK")
OUT_OF_MEMORY = re.compile(
    "out of memory|OOM|bad_alloc|RESOURCE_EXHAUSTED|DefaultCPUAllocator|(can't|cannot|could not|failed to) alloc", re.I
)


def main():
    # Whatever libraries print goes to stderr; stdout is for answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(function, *args, **kwargs):
        try:
            reply = function(*args, **kwargs)
        except Exception as e:
            reply = {"error": reason(e)}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()
        return reply

    built = answer(build, **json.loads(sys.stdin.readline()))
    for line in sys.stdin if "error" not in built else ():
        request = json.loads(line)
        answer(globals()[request.pop("do")], **request)


def build(module, name, arguments, limit):
    """Builds the contestant, within `limit` bytes of data, and notes the memory that it takes before it has run."""
    global contestant, baseline
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit), int(limit)))
    # Should the machine run out of memory all the same, this process is the one to go.
    pathlib.Path("/proc/self/oom_score_adj").write_text("1000")
    contestant = getattr(importlib.import_module(module), name)(**arguments)
    trim()
    baseline = memory("VmRSS")
    return {}


def run(repeats=1):
    """Runs the contestant: seconds of wall, seconds of CPU, and the seconds of CPU that other processes took."""
    busy, cpu, wall = machine_busy(), time.process_time(), time.perf_counter()
    for _ in range(repeats):
        contestant.run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall": wall, "cpu": cpu, "others": machine_busy() - busy - cpu}


def results(path):
    """Writes the named arrays that the contestant computes to an .npz."""
    import numpy as np

    np.savez(path, **contestant.results())
    return {}


def peak(runs=2):
    """MiB at the most in runs of the warm contestant, over framework, inputs and weights."""
    contestant.run()
    trim()
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    for _ in range(runs):
        contestant.run()
    return {"mib": (memory("VmHWM") - baseline) / 1024}


def trim():
    """Gives what is free back to the system, or it would count as the contestant's."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def memory(field):
    """VmRSS or VmHWM, in kB."""
    return int(re.search(rf"{field}:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1])


def machine_busy():
    """Seconds that all CPUs have worked, or were taken by other virtual machines."""
    user, nice, system, _, _, interrupt, soft_interrupt, steal = map(
        int, pathlib.Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    )
    return (user + nice + system + interrupt + soft_interrupt + steal) / TICKS


def reason(error):
    """An exception in one line, "out of memory" if that is what it is."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(text):
        return "out of memory"
    return text.splitlines()[0]


if __name__ == "__main__":
    main()
