"""Tables of rows with few bits, which become arrays of counts when those are no larger."""

import numpy as np
import pytest

from tensorstate_gpu import testing as oracle
from tensorstate_gpu.cpu_fallback import narrow_table
from tensorstate_gpu.cpu_fallback.narrow_table import NarrowTable
from tensorstate_gpu.cpu_fallback.running_counts import Counter
from tensorstate_gpu.cpu_fallback.table import never_stop

MANY = 40_000  # rows of 20 bits that are no small part of the possible ones


def rows_of(keys, width=3):
    packed = np.zeros((len(keys), 8), np.uint8)
    packed[:] = np.asarray(keys, np.uint64).astype("<u8").view(np.uint8).reshape(-1, 8)
    return np.ascontiguousarray(packed[:, :width])


def keys(number=MANY, bits=20, seed=0):
    return np.random.default_rng(seed).choice(1 << bits, number, replace=False).astype(np.uint64)


def add(table, rows, weights=None):
    assert table.add(rows, weights, 0, len(rows), never_stop) == len(rows)


def check(table, rows, weights=None):
    wanted, numbers = oracle.count(rows if weights is None else rows.repeat(weights, axis=0))
    found, counts = table.entries()
    order = np.lexsort(found.T)
    np.testing.assert_array_equal(found[order], wanted)
    np.testing.assert_array_equal(counts[order], numbers)
    assert len(table) == len(wanted)


@pytest.fixture(params=[(3, 0), (5, 0), (8, 0), (3, 1 << 18)], ids=["3", "5", "8", "many"])
def table(request):
    """One that has become an array, and its rows."""
    width, most = request.param
    table, rows = NarrowTable(width, most), rows_of(keys(), width)
    add(table, rows)
    assert table._array is not None
    assert table._array.nbytes <= 4 << 20
    return table, rows


def test_rows_that_repeat(table):
    table, rows = table
    more = rows[np.random.default_rng(1).integers(0, MANY, 3 * MANY)]
    add(table, more)
    check(table, np.concatenate([rows, more]))
    assert table._array is not None


def test_weights(table):
    table, rows = table
    weights = np.random.default_rng(2).integers(1, 9, MANY)
    add(table, rows, weights)
    check(table, rows, weights + 1)


@pytest.mark.parametrize("place", [0, 1, 500, 999])
def test_a_row_with_more_bits_than_any_before(table, place):
    """Its rows are counted in a hash table from now on."""
    table, rows = table
    more = rows[:1000].copy()
    more[place] = 255
    add(table, more)
    assert table._array is None
    check(table, np.concatenate([rows, more]))
    add(table, rows)
    assert table._array is None  # not again
    check(table, np.concatenate([rows, more, rows]))


def test_more_rows_than_its_counts_can_tell(table, monkeypatch):
    table, rows = table
    monkeypatch.setattr(narrow_table, "_MOST_COUNTED", 3 * MANY - 1)
    add(table, rows)
    assert table._array is not None
    add(table, rows)
    assert table._array is None
    check(table, np.concatenate([rows, rows, rows]))


def test_a_count_beyond_32_bits():
    table, rows = NarrowTable(3), rows_of(keys())
    add(table, rows)
    weights = np.full(MANY, 1 << 33)
    add(table, rows, weights)
    found, counts = table.entries()
    assert len(found) == MANY
    assert set(counts.tolist()) == {(1 << 33) + 1}


def test_counts_whose_sum_is_beyond_64_bits(table):
    table, rows = table
    add(table, rows[:4], np.full(4, 1 << 62))
    assert sorted(table.entries()[1].tolist())[-5:] == [1, *[(1 << 62) + 1] * 4]


def test_counts_beyond_32_bits_stay_in_a_hash_table():
    table, rows = NarrowTable(3), rows_of(keys())
    add(table, rows[:100], np.full(100, 1 << 33))
    add(table, rows[100:])
    assert table._array is None
    assert sorted(set(table.entries()[1].tolist())) == [1, 1 << 33]


def test_rows_that_are_taken_back(table):
    table, rows = table
    more = rows_of(keys(1000, seed=3), rows.shape[1])
    add(table, more)
    table.take_back(more, None, 0, len(more))
    check(table, rows)
    table.take_back(rows, None, 0, 10)
    check(table, rows[10:])


def test_rows_that_others_change_before_they_are_taken_back(table):
    """There are no more entries than there is room for."""
    table, rows = table
    others = np.setdiff1d(np.arange(1 << 20), keys())[:1000]
    table.take_back(rows_of(others, rows.shape[1]), None, 0, 1000)
    assert len(table) == np.count_nonzero(table._array) == MANY + 1000


def test_rows_of_many_bits_do_not_need_an_array():
    table, rows = NarrowTable(8), rows_of(keys(bits=30), 8)
    add(table, rows)
    assert table._array is None
    check(table, rows)


@pytest.mark.parametrize("most", [0, (1 << 18) - 1, 1 << 18])
def test_a_table_for_many_rows_has_room_while_it_is_small(most):
    table, rows = NarrowTable(8, most), rows_of(keys(100_000, bits=30), 8)
    shares = {}
    for end in range(1000, len(rows), 1000):
        table.add(rows, None, end - 1000, end, never_stop)
        shares[len(table._slots)] = end / len(table._slots)
    full = {65536: 1 / 8, 131072: 1 / 4} if most == 1 << 18 else {65536: 1 / 2}
    for slots, share in full.items():
        assert share - 0.02 < shares[slots] <= share
    check(table, rows[:end])


def test_an_array_is_no_larger_than_slots_would_be():
    """Of few rows of many bits it would be."""
    table, rows = NarrowTable(3), rows_of(keys(2000))
    add(table, rows)
    assert table._array is None
    check(table, rows)


def test_no_memory_for_a_hash_table_again(table, monkeypatch):
    table, rows = table
    more = rows[:1000].copy()
    more[700] = 255

    def refuse(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(table, "_become_hash_table", refuse)
    with pytest.raises(MemoryError, match="no memory for more than 40,000 states"):
        add(table, more)
    check(table, rows)
    monkeypatch.undo()
    add(table, more)
    check(table, np.concatenate([rows, more]))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_running_counts(threads, monkeypatch):
    """Each thread has a table; some become arrays, and a later batch has more bits."""
    monkeypatch.setattr(
        "tensorstate_gpu.cpu_fallback.running_counts.thread_ranges",
        lambda items, traffic: [
            (items * i // threads, items * (i + 1) // threads) for i in range(threads)
        ],
    )
    rng, counter, given = np.random.default_rng(4), Counter(3), []
    for bits in (20, 20, 20, 20, 22, 24, 18):
        given.append(rows_of(rng.integers(0, 1 << bits, 30_000) // 7 * 7))
        counter.add(given[-1])
        counter.add(given[-1])
    states, counts = counter.result()
    wanted, numbers = oracle.count(np.concatenate(given + given))
    np.testing.assert_array_equal(states, wanted)
    np.testing.assert_array_equal(counts, numbers)
