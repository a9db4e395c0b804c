"""Packing and counting beside a plain NumPy rival, and beside the figures of TensorState 0.4.

``make bench-quick`` times every case: us and the rival in turn, in one process, several rounds. The
figures of TensorState 0.4 were measured on a 2-core x86-64 server (Zen 5, AVX-512); they are
quoted, not measured here, because it offers no build for current Pythons. Without
``--benchmark-enable`` the cases run once on small inputs, as a smoke test.
"""

import time
from collections.abc import Callable

import numpy as np
import pytest

import tensorstate_gpu as ts

ROUNDS = 7
PACK = {  # shape, neuron axis -> GB/s of TensorState 0.4
    "5.76 M x 20": ((5_760_000, 20), -1, 10.9),
    "4 M x 64": ((4_000_000, 64), -1, 6.3),
    "500 k x 512": ((500_000, 512), -1, 3.6),
    "10 k x 16384": ((10_000, 16_384), -1, 2.9),
    "NCHW 200 x 64 x 56 x 56": ((200, 64, 56, 56), 1, 1.4),
    "NCHW 64 x 256 x 28 x 28": ((64, 256, 28, 28), 1, 2.0),
}
COUNT = {  # rows, bytes, distribution -> million rows/s of TensorState 0.4
    "5.76 M x 3 B, Zipf": (5_760_000, 3, "zipf", 14.5),
    "4 M x 8 B, Zipf": (4_000_000, 8, "zipf", 9.5),
    "4 M x 8 B, all distinct": (4_000_000, 8, "distinct", 9.2),
    "1 M x 64 B, Zipf": (1_000_000, 64, "zipf", 2.4),
    "1 M x 64 B, all distinct": (1_000_000, 64, "distinct", 9.8),
}


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def ratios(ours: Callable[[], object], rival: Callable[[], object], rounds: int) -> list[float]:
    """How many times faster we are, round by round, the two in turn."""
    return [seconds(rival) / seconds(ours) for _ in range(rounds)]


def numpy_pack(x: np.ndarray, axis: int) -> np.ndarray:
    return np.packbits(np.moveaxis(x > 0, axis, -1), axis=-1, bitorder="little")


def draw_states(rows: int, width: int, distribution: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if distribution == "distinct":
        return rng.integers(0, 256, (rows, width), dtype=np.uint8)
    table = rng.integers(0, 256, (10_001, width), dtype=np.uint8)
    return table[np.minimum(rng.zipf(1.3, rows), 10_000)]


def report(benchmark, ours, rival, amount: float, unit: str, reference: float) -> None:
    """Time us under pytest-benchmark; note the rate, the rival's ratio and the reference's."""
    rounds = ROUNDS if benchmark.enabled else 1
    ours()  # compile
    speedups = sorted(ratios(ours, rival, rounds))
    benchmark.pedantic(ours, rounds=rounds)
    if benchmark.enabled:
        rate = amount / benchmark.stats.stats.median
        benchmark.extra_info.update(
            rate=f"{rate:.1f} {unit}",
            rival=f"{np.median(speedups):.1f} ({speedups[0]:.1f}..{speedups[-1]:.1f})",
            reference=f"{rate / reference:.1f}",
        )


@pytest.mark.parametrize("case", PACK)
def test_pack(benchmark, case):
    shape, axis, reference = PACK[case]
    if not benchmark.enabled:
        shape = (max(shape[0] // 1000, 1), *shape[1:])
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    assert np.array_equal(
        ts.compress_states(x[:50], neuron_axis=axis),
        numpy_pack(x[:50], axis).reshape(-1, -(-shape[axis] // 8)),
    )
    report(
        benchmark,
        lambda: ts.compress_states(x, neuron_axis=axis),
        lambda: numpy_pack(x, axis),
        x.nbytes / 1e9,
        "GB/s",
        reference,
    )


@pytest.mark.parametrize("case", COUNT)
def test_count(benchmark, case):
    rows, width, distribution, reference = COUNT[case]
    if not benchmark.enabled:
        rows //= 1000
    packed = draw_states(rows, width, distribution)
    whole = packed.view(f"V{width}")[:, 0]
    report(
        benchmark,
        lambda: ts.count_states(packed),
        lambda: np.unique(whole, return_counts=True),
        rows / 1e6,
        "M rows/s",
        reference,
    )
