"""The price of a call: one line, `bench<TAB>Python<TAB>empty<TAB>cycle`, in nanoseconds.

empty is one `grate_version` through ctypes, cycle one acquire and complete through the package. Both are the medians of
batches that take turns, so that what else the machine does meets both.
"""

import json
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import grate  # noqa: E402
from grate import _native  # noqa: E402

CALLS = 200  # little time, as in bench.c
SECONDS = 4.0


def empty(version):
    begin = time.perf_counter_ns()
    for _ in range(CALLS):
        version()
    return (time.perf_counter_ns() - begin) / CALLS


def cycle(engine):
    begin = time.perf_counter_ns()
    for _ in range(CALLS):
        decision = engine.acquire("chat", tokens=100)
        engine.complete(decision, http_status=200, tokens=100)
    return (time.perf_counter_ns() - begin) / CALLS


def main():
    config = HERE.parents[1] / "bench.json"
    empties, cycles = [], []
    with grate.Engine(json.loads(config.read_text(encoding="utf-8"))) as engine:
        version = _native.lib.grate_version
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            empties.append(empty(version))
            cycles.append(cycle(engine))
    warm = len(cycles) // 10 + 1
    print(f"bench\tPython\t{statistics.median(empties[warm:]):.0f}\t{statistics.median(cycles[warm:]):.0f}")


main()
