"""A guard against kernels that fall off a cliff: ratios to plain loops, compared with kept ones.

``python -m benchmarks.guard`` measures and writes benchmarks/results/guard.json; the test suite
measures again and fails where a ratio has halved. Each kernel is compared with a plain loop of the
same kind, compiled here, on one thread, so that ratios differ little between machines.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

import tensorstate_gpu as ts
from benchmarks import inputs

KEPT = Path(__file__).parent / "results/guard.json"
Call = Callable[[], object]


@numba.njit
def add_up(numbers: Any) -> Any:
    """One pass over memory with one dependent addition each: what packing is compared with."""
    total = numbers[0]
    for number in numbers:
        total += number
    return total


@numba.njit
def scatter_and_gather(keys: Any, table: Any) -> Any:
    """A multiplication and a random increment for each key: what counting is compared with."""
    for key in keys:
        table[(key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(48)] += 1


def cases() -> dict[str, tuple[Call, Call]]:
    """Name -> our call, and the plain one."""
    flat = np.ones(1 << 20, np.float32)
    words = np.random.default_rng(0).integers(0, 2**63, 1 << 18, dtype=np.uint64)
    table = np.zeros(1 << 16, np.int64)
    pack: dict[str, tuple[tuple[int, ...], int, str]] = {
        "pack rows of 20": ((1 << 15, 20), -1, "float32"),
        "pack rows of 64": ((1 << 14, 64), -1, "float32"),
        "pack rows of 512, float16": ((1 << 11, 512), -1, "float16"),
        "pack NCHW 28 x 28": ((16, 64, 28, 28), 1, "float32"),
        "pack NCHW 7 x 7": ((16, 512, 7, 7), 1, "float32"),
    }
    found: dict[str, tuple[Call, Call]] = {}
    for name, (shape, axis, dtype) in pack.items():
        x = inputs.activations(shape, dtype)
        found[name] = (
            lambda x=x, axis=axis: ts.compress_states(x, neuron_axis=axis),
            lambda: add_up(flat),
        )
    count = {
        "count 3 bytes, zipf": (1 << 18, 20, "zipf"),
        "count 8 bytes, all distinct": (1 << 18, 64, "all distinct"),
        "count 64 bytes, zipf": (1 << 16, 512, "zipf"),
        "count 64 bytes, all distinct": (1 << 16, 512, "all distinct"),
    }
    for name, drawn in count.items():
        packed = inputs.states(*drawn)
        found[name] = (
            lambda packed=packed: ts.count_states(packed),
            lambda: scatter_and_gather(words, table),
        )
    packed = inputs.states(1 << 16, 64, "all distinct")
    found["unpack rows of 64"] = (lambda: ts.decompress_states(packed, 64), lambda: add_up(flat))
    found["sort 8 bytes"] = (
        lambda: ts.sort_states(packed),
        lambda: scatter_and_gather(words, table),
    )
    return found


def measure(rounds: int = 15) -> dict[str, float]:
    """For each case: the plain loop's best time over ours."""
    ts.set_num_threads(1)
    try:
        return {name: _ratio(ours, plain, rounds) for name, (ours, plain) in cases().items()}
    finally:
        ts.set_num_threads(None)


def _ratio(ours: Call, plain: Call, rounds: int) -> float:
    for call in (ours, plain):
        call()
    times = [(_seconds(ours), _seconds(plain)) for _ in range(rounds)]
    best, best_plain = (min(column) for column in zip(*times, strict=True))
    return float(f"{best_plain / best:.3g}")


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    # The worse of three, so that a lucky moment does not raise the bar.
    runs = [measure() for _ in range(3)]
    kept = {name: min(run[name] for run in runs) for name in runs[0]}
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    print(json.dumps(kept, indent=1))
