"""How much a second thread, and all the others, speed up large inputs.

Beside them what the machine allows: mere reading, and arithmetic that needs no memory.
"""

import numpy as np
import pytest
import torch
from numba import njit

import tensorstate_gpu as ts
from benchmarks.harness import inputs
from benchmarks.harness.compare import time_in_turn
from tensorstate_gpu.cpu_fallback.threads import in_parallel


def on_one_thread(call, set_threads, all_threads):
    def limited():
        set_threads(1)
        call()
        set_threads(all_threads)

    return limited


@njit(nogil=True, cache=True)
def _generate(count):
    number = np.uint64(1)
    for _ in range(count):
        number = number * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
    return number


def arithmetic(rows):
    return lambda: in_parallel(lambda i, j: _generate(j - i), 4 * rows, 1 << 30)


def reading(rows):
    x = torch.from_numpy(inputs.activations((rows, 64), "float32"))
    return x.sum


def packing(rows):
    x = inputs.activations((rows, 64), "float32")
    return lambda: ts.compress_states(x)


def packing_nchw(rows):
    x = inputs.activations((max(rows // 20_000, 1), 64, 56, 56), "float32")
    return lambda: ts.compress_states(x, neuron_axis=1)


def counting(distribution):
    def prepare(rows):
        packed = inputs.states(rows, 64, distribution)
        return lambda: ts.count_states(packed)

    return prepare


TASKS = {
    "limit: arithmetic": arithmetic,
    "limit: torch sum 4 M x 64": reading,
    "pack 4 M x 64": packing,
    "pack 200 x 64 x 56 x 56": packing_nchw,
    "count 4 M x 64, zipf": counting("zipf"),
    "count 4 M x 64, all distinct": counting("all distinct"),
}


@pytest.mark.parametrize("name", TASKS)
def test_threads(benchmark, name):
    prepare = TASKS[name]
    call = prepare(4_000_000 if benchmark.enabled else 4_000)
    assert np.all(call() is not None)
    if prepare is reading:
        limited = on_one_thread(call, torch.set_num_threads, torch.get_num_threads())
    else:
        limited = on_one_thread(call, ts.set_num_threads, None)
    time_in_turn(
        benchmark,
        {"all threads": call, "one thread": limited},
        amount=4,
        unit="M rows/s",
    )
