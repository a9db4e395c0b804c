"""Many small histograms are merged at once, with the result of merging one after the other."""

import functools
import pickle

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._states import state_counts
from tensorstate_gpu._states.states_by_group import StatesByGroup
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
    assert len(parts) > state_counts.MANY
    with pytest.raises(OverflowError, match="more than int64 holds"):
        ts.merge(parts)
    assert ts.merge(parts[:63]).total == 63 * 2**57


def test_slices_of_a_result_have_no_unused_bits():
    rows, counts = np.array([[3], [8]], np.uint8), np.ones(2, np.int64)
    with pytest.raises(ValueError, match="bits"):
        next(StatesByGroup.apart(rows, counts, np.array([0, 2], np.uint32), 2, 3))
    ((first, parts), (second, _)) = StatesByGroup.apart(
        rows, counts, np.array([0, 4], np.uint32), 2, 4
    )
    assert (first, second) == (0, 2)
    assert [part.total for part in parts] == [1, 0]


def grouped(number, neurons=20, groups=5):
    for parts in zip(*[histograms(number, neurons, 4)] * groups, strict=False):
        yield ts.GroupedCounts(parts, [1] * groups, 7)


@pytest.mark.parametrize("neurons", [3, 20, 64, 200])
def test_many_by_group_as_one_after_the_other(neurons):
    first, *others = grouped(200, neurons)
    assert len(others) > state_counts.MANY
    merged = first.merge(*others)
    assert merged == functools.reduce(ts.GroupedCounts.merge, others, first)
    assert hash(merged) == hash(pickle.loads(pickle.dumps(merged)))
    assert merged.sizes.tolist() == [len(part) for part in merged.parts]
    for array in (merged.parts[0].packed, merged.parts[0].counts):
        with pytest.raises(ValueError, match=r"WRITEABLE"):
            array.flags.writeable = True


def test_many_by_group_of_other_neurons_are_refused():
    first, *others = grouped(200)
    (other,) = grouped(5, 30)
    with pytest.raises(ValueError, match="cannot merge counts of 30 neurons with 20"):
        first.merge(*others, other)


def test_many_by_group_without_rows():
    empty = ts.GroupedCounts([ts.StateCounts.empty(3)] * 2, [0, 0])
    assert empty.merge(*[empty] * 40) == empty
