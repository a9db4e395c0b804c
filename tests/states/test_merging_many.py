"""Many small histograms are merged at once, with the result of merging one after the other."""

import functools

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._states import state_counts
from tests.support.python_calls import calls_of


def histograms(number, neurons, states):
    rng = np.random.default_rng(number)
    width = -(-neurons // 8)
    last = (1 << (neurons - 1) % 8 + 1) - 1
    for _ in range(number):
        packed = rng.integers(0, 256, (int(rng.integers(0, states)), width)).astype(np.uint8)
        packed[:, :-1] &= 3  # so that many are equal
        packed[:, -1] &= last
        yield ts.count_states(packed, neurons)


@pytest.mark.parametrize("neurons", [3, 8, 20, 63, 64, 65, 200])
def test_as_one_after_the_other(neurons):
    parts = list(histograms(100, neurons, 20))
    assert ts.merge(parts) == functools.reduce(ts.StateCounts.merge, parts)


def test_more_of_them_take_few_more_calls():
    def calls(number):
        parts = list(histograms(number, 20, 20))
        return len(calls_of(lambda: ts.merge(parts)))

    calls(300)  # compiles kernels
    assert calls(300) - calls(100) < 200 * 8


def test_counts_beyond_int64():
    parts = [ts.StateCounts(np.zeros((1, 1), np.uint8), np.array([2**57]), 1)] * 64
    assert len(parts) > state_counts._MANY
    with pytest.raises(OverflowError, match="more than int64 holds"):
        ts.merge(parts)
    assert ts.merge(parts[:63]).total == 63 * 2**57


def test_slices_of_a_result_have_no_unused_bits():
    rows, counts = np.array([[3], [8]], np.uint8), np.ones(2, np.int64)
    with pytest.raises(ValueError, match="bits"):
        next(ts.StateCounts.cut(rows, counts, 3, [slice(0, 1)]))
    assert next(ts.StateCounts.cut(rows, counts, 4, [slice(0, 1)])).total == 1
