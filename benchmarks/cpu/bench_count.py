"""Counting, merging and sorting states beside NumPy, torch and the engines for data frames."""

import numpy as np
import pytest

import tensorstate_gpu as ts
from benchmarks.harness import inputs, limits, rivals
from benchmarks.harness.compare import compare

# Name -> rows, neurons; and how the states are distributed.
DRAWN = {
    "5.76 M x 20": (5_760_000, 20, ["zipf", "1e3", "1e5", "1e6"]),
    "640 k x 50": (640_000, 50, ["zipf", "1e5", "all distinct"]),
    "10 k x 100": (10_000, 100, ["zipf", "all distinct"]),
    "4 M x 64": (4_000_000, 64, ["zipf", "1e3", "1e5", "1e6", "all distinct"]),
    "4 M x 128": (4_000_000, 128, ["zipf", "1e5", "1e6", "all distinct"]),
    "1 M x 512": (1_000_000, 512, ["zipf", "1e3", "1e5", "all distinct"]),
    "10 k x 16384": (10_000, 16_384, ["zipf", "all distinct"]),
}
QUICK = {("5.76 M x 20", "zipf"), ("4 M x 64", "all distinct"), ("1 M x 512", "zipf")}
REFERENCE_SORTS = {"5.76 M x 20": (5_760_000, 20), "1 M x 512": (1_000_000, 512)}


def cases():
    for name, (_, _, distributions) in DRAWN.items():
        for distribution in distributions:
            quick = (name, distribution) in QUICK
            yield pytest.param(name, distribution, marks=[pytest.mark.quick] if quick else [])


def compare_counting(benchmark, packed):
    competitors = rivals.counters(packed)
    counts = ts.count_states(packed)
    for name, rival in competitors.items():
        assert np.array_equal(rivals.sorted_counts(rival()), np.sort(counts.counts)), name
    own = counts.packed, counts.counts
    compare(
        benchmark,
        lambda: ts.count_states(packed),
        rivals=competitors,
        # Where most rows differ, writing the result takes longer than reading the rows.
        limits={"copying the result": lambda: [part.copy() for part in own]}
        if 2 * len(counts) > len(packed)
        else limits.readers(inputs.buffer(packed)),
        amount=len(packed) / 1e6,
        unit="M rows/s",
    )


@pytest.mark.parametrize(("name", "distribution"), list(cases()))
def test_count(benchmark, name, distribution):
    rows, neurons, _ = DRAWN[name]
    compare_counting(
        benchmark,
        inputs.states(rows if benchmark.enabled else rows // 1000, neurons, distribution),
    )


@pytest.mark.parametrize("layer", ["conv_1", "conv_2", "conv_3"])
def test_count_trained_lenet(benchmark, layer):
    if benchmark.enabled:
        compare_counting(benchmark, inputs.trained_layers()[layer])
    else:
        compare_counting(benchmark, inputs.trained_layers(epochs=1)[layer][:1000])


@pytest.mark.parametrize("neurons", [20, 64, 512])
def test_merge(benchmark, neurons):
    rows = 500_000 if benchmark.enabled else 500
    both = inputs.states(2 * rows, neurons, "1e6" if benchmark.enabled else "1e3")
    one, other = ts.count_states(both[:rows]), ts.count_states(both[rows:])
    assert one + other == ts.count_states(both)
    compare(
        benchmark,
        lambda: one + other,
        rivals={},
        limits={},
        amount=(len(one) + len(other)) / 1e6,
        unit="M states/s",
    )


@pytest.mark.parametrize("name", REFERENCE_SORTS)
@pytest.mark.parametrize("distribution", ["zipf", "all distinct"])
def test_sort(benchmark, name, distribution):
    rows, neurons = REFERENCE_SORTS[name]
    packed = inputs.states(rows if benchmark.enabled else rows // 1000, neurons, distribution)
    competitors = {}
    if neurons <= 64:
        keys = rivals.as_integers(packed)
        competitors["np.argsort (stable)"] = lambda: np.argsort(keys, kind="stable")
    else:
        words = [*packed.view("<u8").T]
        competitors["np.lexsort"] = lambda: np.lexsort(words)
    for rival in competitors.values():
        assert np.array_equal(ts.sort_states(packed)[1], rival())
    compare(
        benchmark,
        lambda: ts.sort_states(packed),
        rivals=competitors,
        limits={},
        amount=rows / 1e6,
        unit="M rows/s",
    )
