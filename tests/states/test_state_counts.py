"""The laws of StateCounts: values that are merged, compared and copied."""

import copy
import functools
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tensorstate_gpu as ts
from tensorstate_gpu.testing import packed_states

counts_of_20_neurons = packed_states(neurons=20).map(lambda drawn: ts.count_states(drawn[0], 20))


@given(counts_of_20_neurons, counts_of_20_neurons, counts_of_20_neurons)
def test_merging_is_associative_and_commutative(a, b, c):
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + ts.StateCounts.empty(20) == a == ts.StateCounts.empty(20) + a
    assert a.merge(b) == a + b == sum([a, b])
    assert (a + b).total == a.total + b.total
    together = functools.reduce(lambda x, y: x + y, [a, b, c])
    rows = [np.repeat(part.packed, part.counts, axis=0) for part in (a, b, c)]
    assert together == ts.count_states(np.concatenate(rows), 20)
    assert hash(a + b) == hash(b + a)


def small():
    return ts.StateCounts(np.array([[0], [1], [3]], np.uint8), np.array([1, 2, 1]), neurons=2)


def test_arrays_of_torch():
    """NumPy's own conversion of a tensor warns, and warnings are errors here."""
    given = torch.tensor([[0], [1], [3]], dtype=torch.uint8), torch.tensor([1, 2, 1])
    counts = ts.StateCounts(*given, neurons=2)
    assert counts == small()
    given[0][0, 0], given[1][0] = 7, 7  # of which it has a copy
    assert counts == small()


def test_state_counts_attributes():
    counts = small()
    assert len(counts) == 3
    assert counts.total == 4
    assert counts.neurons == counts.max_entropy() == 2
    assert counts.packed.dtype == np.uint8
    assert counts.counts.dtype == np.int64
    assert counts.state_ids() == [b"\0", b"\1", b"\3"]
    assert counts.states.tolist() == [[False, False], [True, False], [True, True]]
    assert counts.entropy() == 1.5
    assert counts.entropy(0) == math.log2(3)
    assert counts.entropy(math.inf) == 1
    assert counts.efficiency() == 0.75
    assert counts.efficiency(1, 0) == 1.5 / math.log2(3)
    occurrences, how_many = counts.counts_of_counts()
    assert occurrences.tolist() == [1, 2]
    assert how_many.tolist() == [2, 1]
    assert occurrences.dtype == how_many.dtype == np.int64
    assert "3 distinct" in repr(counts)
    assert "4 states" in repr(counts)
    assert "1.5" in repr(counts)


def test_one_state_has_efficiency_zero():
    counts = ts.count_states(np.zeros((9, 2), np.uint8), 16)
    assert counts.entropy() == counts.efficiency() == counts.efficiency(1, 0) == 0


def test_empty_counts():
    empty = ts.StateCounts.empty(20)
    assert len(empty) == empty.total == 0
    assert empty.packed.shape == (0, 3)
    assert empty.states.shape == (0, 20)
    assert empty.state_ids() == []
    assert [part.tolist() for part in empty.counts_of_counts()] == [[], []]
    assert "empty" in repr(empty)
    for measure in (empty.entropy, empty.efficiency):
        with pytest.raises(ValueError, match="empty"):
            measure()


def test_equality():
    assert small() == small()
    others = [
        ts.StateCounts(small().packed, small().counts, 3),
        ts.StateCounts(small().packed, [1, 2, 2], 2),
        ts.StateCounts(np.array([[0], [1], [2]], np.uint8), [1, 2, 1], 2),
        ts.StateCounts.empty(2),
        "counts",
        None,
    ]
    assert all(small() != other for other in others)


def test_state_counts_are_values():
    rows, numbers = np.array([[0], [1]], np.uint8), np.array([1, 2])
    counts = ts.StateCounts(rows, numbers, 2)
    rows[:], numbers[:] = 7, 7  # StateCounts has its own copies
    assert counts.packed.tolist() == [[0], [1]]
    assert counts.counts.tolist() == [1, 2]
    for array in (counts.packed, counts.counts):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    for name in ("counts", "packed", "neurons", "other"):
        with pytest.raises(AttributeError):
            setattr(counts, name, 1)
    before = pickle.dumps(counts)
    _ = counts + counts
    assert pickle.dumps(counts) == before


@pytest.mark.parametrize(
    "again", [lambda c: pickle.loads(pickle.dumps(c)), copy.copy, copy.deepcopy]
)
def test_copies_are_equal_and_immutable(again):
    for counts in (small(), ts.StateCounts.empty(9)):
        assert again(counts) == counts
        assert not again(counts).counts.flags.writeable


def test_large_counts_are_exact():
    def times(n):
        return ts.StateCounts(np.array([[1]], np.uint8), np.array([n]), 8)

    assert (times(2**40 + 3) + times(2**62)).counts.tolist() == [2**62 + 2**40 + 3]
    assert times(2**53 + 1).total == 2**53 + 1
    assert (times(10**12) + small_of_8()).entropy() > 0


def small_of_8():
    return ts.StateCounts(np.array([[0], [1]], np.uint8), np.array([1, 1]), 8)


@pytest.mark.parametrize("width", [1, 8, 9])
def test_merging_keeps_large_counts_of_any_width(width):
    packed = np.zeros((2, width), np.uint8)
    packed[1] = 255
    part = ts.StateCounts(packed, np.array([2**40 + 3, 10**12]), 8 * width)
    assert (part + part).counts.tolist() == [2**41 + 6, 2 * 10**12]
    assert sum([part] * 5).total == 5 * (2**40 + 3 + 10**12)


@pytest.mark.parametrize("width", [1, 9])
def test_merging_beyond_int64_raises(width):
    most = ts.StateCounts(np.ones((1, width), np.uint8), [2**62], 8 * width)
    with pytest.raises(OverflowError, match="more than int64 holds"):
        most + most


def counted(*counts):
    return ts.StateCounts(np.arange(len(counts), dtype=np.uint8)[:, None], np.array(counts), 8)


def test_totals_close_to_the_largest():
    assert counted(2**62, 2**62 - 1).total == 2**63 - 1
    assert (counted(2**62) + counted(1, 2**62 - 2)).total == 2**63 - 1
    with pytest.raises(OverflowError, match="more than int64 holds"):
        counted(2**63 - 513, 256, 257)  # the sum as floats is smaller


@given(st.lists(counts_of_20_neurons, min_size=1, max_size=9))
def test_any_number_of_parts_is_merged_at_once(parts):
    assert ts.merge(parts) == ts.merge(iter(parts)) == sum(parts)


def test_what_cannot_be_merged():
    with pytest.raises(ValueError, match="parts is empty"):
        ts.merge([])
    with pytest.raises(TypeError, match="parts must be StateCounts, got ndarray"):
        ts.merge([small(), np.ones(3)])
    with pytest.raises(ValueError, match="cannot merge counts of 8 neurons with 2"):
        ts.merge([small(), small_of_8()])
    most = ts.StateCounts(np.array([[1]], np.uint8), np.array([2**62]), 2)
    with pytest.raises(OverflowError, match="more than int64 holds"):
        ts.merge([most, most])


def test_a_pickle_is_read_without_looking_at_the_order_of_states(monkeypatch):
    data = pickle.dumps(small())
    monkeypatch.setattr("tensorstate_gpu._states.count_checks._is_ascending", None)
    assert pickle.loads(data) == small_as_trusted()


def small_as_trusted():
    counts = np.array([[0], [1], [3]], np.uint8), np.array([1, 2, 1])
    return ts.StateCounts.trusted(*counts, 2)
