"""What small calls cost: functions of Python that each of them calls, and its time beside NumPy's.

``python -m benchmarks.cpu.small_calls`` prints both. The number of functions is the same on every
run, however busy the machine: the test suite compares it with LIMITS. Times are the least of many
rounds in which ours and NumPy's alternate, in processor time of one thread.
"""

import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np

import tensorstate_gpu as ts
from benchmarks.harness import inputs

Call = Callable[[], Any]
# At most so many functions; one more call of a kernel's Python code would add several.
LIMITS = {"pack 1 x 64": 20, "unpack 1 x 64": 29, "count 1 x 64": 58, "popcount 1 x 64": 27}
ROUNDS, SECONDS = 15, 0.01


def cases() -> dict[str, tuple[Call, Call]]:
    """Name -> our call, and NumPy's."""
    found: dict[str, tuple[Call, Call]] = {}
    for rows in (1, 1000):
        x = inputs.activations((rows, 64), "float32")
        found |= _cases_of(f"{rows} x 64", x, ts.compress_states(x))
    return found


def _cases_of(name: str, x: Any, packed: Any) -> dict[str, tuple[Call, Call]]:
    return {
        f"pack {name}": (
            lambda: ts.compress_states(x),
            lambda: np.packbits(x > 0, axis=-1, bitorder="little"),
        ),
        f"unpack {name}": (
            lambda: ts.decompress_states(packed, 64),
            lambda: np.unpackbits(packed, axis=-1, bitorder="little").view(bool),
        ),
        f"count {name}": (
            lambda: ts.count_states(packed),
            lambda: np.unique(packed.view(np.uint64), return_counts=True),
        ),
        f"popcount {name}": (
            lambda: ts.popcount(packed),
            lambda: np.bitwise_count(packed).sum(axis=1),
        ),
    }


def python_calls(call: Call) -> int:
    """How many functions of Python a call calls once everything is compiled and looked up."""
    call()
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(before)
    return calls - 1  # without ``call`` itself


def _microseconds(call: Call, times: int) -> float:
    start = time.thread_time()
    for _ in range(times):
        call()
    return 1e6 * (time.thread_time() - start) / times


def main() -> None:
    print("| call | functions of Python | time | x NumPy |")
    print("|---|---|---|---|")
    for name, (ours, numpy) in cases().items():
        ours(), numpy()
        times = max(1, int(1e6 * SECONDS / max(_microseconds(ours, 3), 1)))
        rounds = [(_microseconds(ours, times), _microseconds(numpy, times)) for _ in range(ROUNDS)]
        own, other = (min(each) for each in zip(*rounds, strict=True))
        print(f"| {name} | {python_calls(ours)} | {own:.1f} us | {other / own:.2f} |")


if __name__ == "__main__":
    main()
