"""Running counts that outgrow their table: collected, sorted in batches, and merged."""

import functools

import numpy as np
import pytest

from tensorstate_gpu import testing
from tensorstate_gpu.cpu_fallback import running_counts as module
from tensorstate_gpu.cpu_fallback import waiting_rows
from tensorstate_gpu.cpu_fallback.running_counts import Counter
from tests.support.interrupting import interrupted

WIDTHS = [1, 3, 8, 9, 64, 300]
ROWS = 6000


@pytest.fixture(autouse=True, params=[1 << 60, 64], ids=["tables first", "counts first"])
def _small_tables(request, monkeypatch):
    monkeypatch.setattr(module, "_MANY_AT_FIRST", request.param)
    monkeypatch.setattr(module, "_MOST_IN_TABLES", 1000)
    monkeypatch.setattr(module, "_MOST_COLLECTED", 1 << 16)
    monkeypatch.setattr(module, "_MOST_WAITING", 0)


@pytest.fixture(params=[0, 2000, 1 << 14, 1 << 21])
def waiting(request, monkeypatch):
    """Bytes of small batches that wait to be counted together."""
    monkeypatch.setattr(module, "_MOST_WAITING", request.param)


def inputs(width):
    """Rows of kinds that take different ways: new ones, repeated ones, and one after the other."""
    rng = np.random.default_rng(width)
    new = rng.integers(0, 256, (ROWS, width), dtype=np.uint8)
    few = new[rng.integers(0, 100, ROWS)]
    skewed = new[(rng.random(ROWS) ** 3 * ROWS).astype(int)]
    low_words_only = np.zeros_like(new)
    low_words_only[:, : width // 2] = new[:, : width // 2]
    cyclic = new[np.arange(ROWS) % 1500]
    yield from (new, few, skewed, low_words_only, cyclic, new[np.lexsort(new.T)])
    yield np.concatenate([few, new, few, skewed, new])


def batches(rows):
    """Small ones that are collected, large ones that are not, and empty ones."""
    return np.array_split(rows, [1, 3, 3, 700, 900, 901, 2000, 4500, 4600])


def check(counter, rows, weights=None):
    states, counts = counter.result()
    wanted, numbers = testing.count(rows if weights is None else rows.repeat(weights, axis=0))
    np.testing.assert_array_equal(states, wanted)
    np.testing.assert_array_equal(counts, numbers)
    assert counts.dtype == np.int64
    assert counter.total == numbers.sum()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("budget", [None, 1 << 18])
@pytest.mark.usefixtures("waiting")
def test_counts_are_those_of_the_oracle(width, budget):
    for rows in inputs(width):
        counter = Counter(width, budget)
        for batch in batches(rows):
            counter.add(batch)
        check(counter, rows)
        counter.add(rows[:5])  # reading has changed nothing
        check(counter, np.concatenate([rows, rows[:5]]))


@pytest.mark.parametrize("width", [3, 16])
@pytest.mark.usefixtures("waiting")
def test_weights(width):
    rows = next(inputs(width))
    weights = np.random.default_rng(0).integers(1, 4, len(rows))
    counter = Counter(width)
    for batch, own in zip(batches(rows), batches(weights), strict=True):
        counter.add(batch, own)
    counter.add(rows[:100])
    check(counter, np.concatenate([rows, rows[:100]]), np.concatenate([weights, np.ones(100, int)]))


def test_all_rows_are_in_the_histograms_that_are_taken_away():
    rows = next(inputs(8))
    counter = Counter(8, 1 << 18)
    for batch in batches(rows):
        counter.add(batch)
    parts = counter.histograms()
    assert len(parts) > 1
    assert counter.is_full
    for states, counts in parts:
        np.testing.assert_array_equal(testing.count(states)[0], states)
        assert counts.min() > 0
    assert sum(counts.sum() for _, counts in parts) == len(rows)


def test_a_batch_for_which_there_is_no_memory_is_not_counted(monkeypatch):
    rows = next(inputs(8))
    counter = Counter(8)
    counter.add(rows[:1000])
    counter.add(rows[1000:1500])

    def no_memory(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(module, "count", no_memory)
        with pytest.raises(MemoryError):
            counter.add(rows[1500:3400])  # the rows collected so far have to be counted first
        assert counter.total == 1500
    counter.add(rows[1500:3400])
    check(counter, rows[:3400])


def test_histograms_that_cannot_be_merged_yet_are_kept(monkeypatch):
    rows = next(inputs(8))
    counter = Counter(8)

    def no_memory(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(module, "merge", no_memory)
        for batch in batches(rows):
            counter.add(batch)
        with pytest.raises(MemoryError):
            counter.result()
    check(counter, rows)


def test_tables_that_cannot_be_sorted_yet_are_kept(monkeypatch):
    monkeypatch.setattr(module, "_MANY_AT_FIRST", 1 << 60)
    rows = next(inputs(8))
    counter = Counter(8)
    ordered, calls = module.in_order, []

    def only_once(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise MemoryError
        return ordered(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "in_order", only_once)
        patch.setattr(module, "thread_ranges", lambda rows, _: [(0, rows // 2), (rows // 2, rows)])
        for batch in np.array_split(rows[:4000], 10):
            counter.add(batch)
        with pytest.raises(MemoryError):
            counter.add(rows[4000:])
    assert counter.total == 4000
    counter.add(rows[4000:])
    check(counter, rows)


@pytest.mark.usefixtures("waiting")
def test_a_result_does_not_change_when_more_is_counted():
    rows = next(inputs(8))
    counter = Counter(8)
    counter.add(rows[:5000])
    states, counts = counter.result()
    before = states.copy(), counts.copy()
    for array in (states, counts):
        array.flags.writeable = False  # as a StateCounts does
    counter.add(rows)
    check(counter, np.concatenate([rows[:5000], rows]))
    np.testing.assert_array_equal(states, before[0])
    np.testing.assert_array_equal(counts, before[1])


@pytest.mark.parametrize("width", WIDTHS)
def test_a_cleared_counter_counts_anew(width):
    for rows in inputs(width):
        counter = Counter(width, 1 << 18)
        for _ in range(2):
            for batch in batches(rows):
                counter.add(batch)
            check(counter, rows)
            counter.clear()
            assert counter.total == counter.nbytes == len(counter.result()[1]) == 0
        assert counter.histograms() == []


@pytest.mark.parametrize(
    ("width", "rows", "in_table"),
    [(8, 124, False), (8, 125, True), (4, 124, False), (3, 124, True), (9, 124, True)],
)
def test_first_rows_that_hardly_repeat_do_not_come_into_a_table(width, rows, in_table, monkeypatch):
    monkeypatch.setattr(module, "_MANY_AT_FIRST", 64)
    states = np.random.default_rng(0).integers(0, 256, (100, width), np.uint8)
    counter = Counter(width)
    counter.add(states[np.arange(rows) % 100])
    assert [len(table) for table in counter._tables] == [100 if in_table else 0]
    check(counter, states[np.arange(rows) % 100])


def test_a_cleared_counter_goes_on_sorting():
    new, few, *_ = inputs(8)
    counter = Counter(8, 1 << 18)
    for rows, sorting in ((few, False), (new, True), (few, True)):
        for batch in np.array_split(rows[:2000], 5):
            counter.add(batch)
        counter.clear()
        assert counter._is_sorting == sorting
        counter.add(rows[:20])
        assert bool(len(counter._tables[0])) != sorting
        check(counter, rows[:20])
        counter.clear()


@pytest.mark.parametrize("width", [3, 9])
@pytest.mark.parametrize("few", [True, False])
def test_reading_that_is_interrupted_counts_no_row_twice(width, few, monkeypatch):
    """Rows that wait for a table, and those collected to be sorted."""
    monkeypatch.setattr(module, "_MOST_WAITING", 1 << 21)
    rows = list(inputs(width))[1 if few else 0][:1500]
    for step in range(1, 1000):
        counter = Counter(width)
        for start in range(0, 1500, 300):
            counter.add(rows[start : start + 300])
        came = interrupted(counter.result, step)
        check(counter, rows)
        if not came:
            break
    assert 20 < step < 999


@pytest.mark.parametrize("width", [8, 100])
def test_all_counters_share_the_memory_for_rows_that_wait(width, monkeypatch):
    """The first that ask get it; the others count each batch as it comes."""
    monkeypatch.setattr(module, "_MOST_WAITING", 1 << 21)
    before = waiting_rows._taken
    monkeypatch.setattr(waiting_rows, "_MOST_BYTES", before + 20 * 300 * width)
    rows = list(inputs(width))[1][:900]
    counters = [Counter(width) for _ in range(5)]
    for start in range(0, 900, 300):
        for counter in counters:
            counter.add(rows[start : start + 300])
    assert [counter._filled for counter in counters] == [900, 900, 900, 0, 0]
    assert waiting_rows._taken - before == 20 * 300 * width
    for counter in counters:
        check(counter, rows)
    del counter
    counters[:3] = []
    for counter in counters:  # there is memory again
        counter.add(rows[:300])
        assert counter._filled == 300
        check(counter, np.concatenate([rows, rows[:300]]))
    del counter, counters
    assert waiting_rows._taken == before


def test_memory_for_rows_that_wait_is_not_taken_if_there_is_none(monkeypatch):
    before = waiting_rows._taken
    monkeypatch.setattr(waiting_rows, "_MOST_BYTES", 1 << 62)
    with pytest.raises(MemoryError):
        waiting_rows.room_for_rows(1, 1 << 20, 1 << 40)
    assert waiting_rows._taken == before


@pytest.mark.parametrize("width", [2, 8, 13])
def test_rows_that_lie_apart_are_counted_without_memory_to_wait_in(width, monkeypatch):
    monkeypatch.setattr(module, "_MOST_WAITING", 1 << 21)
    monkeypatch.setattr(waiting_rows, "_MOST_BYTES", waiting_rows._taken)
    wide = np.random.default_rng(0).integers(0, 256, (600, 2 * width), np.uint8)
    for rows in (wide[:, ::2], wide[::2, :width], wide[::-1, :width]):
        counter = Counter(width)
        counter.add(rows)
        check(counter, np.ascontiguousarray(rows))


def test_memory_for_rows_that_wait_is_given_back_once_if_its_taking_is_interrupted(monkeypatch):
    monkeypatch.setattr(module, "_MOST_WAITING", 1 << 21)
    rows, before = np.zeros((200, 8), np.uint8), waiting_rows._taken
    for step in range(1, 999):
        counter = Counter(8)
        came = interrupted(functools.partial(counter.add, rows), step)
        del counter
        assert waiting_rows._taken == before
        if not came:
            break
    assert 10 < step < 999
