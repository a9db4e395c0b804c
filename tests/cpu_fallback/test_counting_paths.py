"""Counting and sorting many rows of all distributions: by tables, by sorting, and by both."""

import time

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import testing
from tensorstate_gpu.cpu_fallback import in_cache, numpy_sort
from tensorstate_gpu.cpu_fallback.merge import count_by_sorting
from tensorstate_gpu.cpu_fallback.running_counts import Counter
from tensorstate_gpu.cpu_fallback.threads import split_ranges
from tests.support.samples import thinned

ROWS = 150_000
WIDTHS = [1, 3, 7, 8, 9, 16, 64]


def words_of(width, rows):
    """Return rows as a list of uint64 words, the lowest first."""
    padded = np.zeros((len(rows), -(-width // 8) * 8), np.uint8)
    padded[:, :width] = rows
    return [*padded.view("<u8").T]


def shuffled(rng):
    return rng.integers(0, 256, (ROWS, 64), dtype=np.uint8)


def only_low_bits(rng):
    rows = np.zeros((ROWS, 64), np.uint8)
    rows[:, 0] = rng.integers(0, 8, ROWS)
    return rows


def only_high_bits(rng):
    return only_low_bits(rng)[:, ::-1].copy()


def rarely_firing(rng):
    return np.packbits(rng.random((ROWS, 512)) < 0.01, axis=1)


def seldom_firing(rng):
    return np.packbits(rng.random((ROWS, 512)) < 0.2, axis=1)


def clusters_in_clusters(rng):
    """Return rows in ever smaller groups with equal higher bits, for each width."""
    rows = shuffled(rng)
    for width in WIDTHS:
        for at in range(min(width, 8)):  # each byte, with its neighbours, has few values
            rows[:, width - 1 - at] = rows[:, width - 1 - at] % 7 * 36
    return rows


def few_high_words(rng):
    """Return rows with four values of the highest 16 bits and random lower bits: runs of ties."""
    rows = shuffled(rng)
    for width in WIDTHS:
        rows[:, max(width - 2, 0) : width] = rng.integers(0, 2, (ROWS, min(width, 2)))
    return rows


def all_equal(rng):
    return np.full((ROWS, 64), 170, np.uint8)


def two_values(rng):
    return np.repeat(rng.integers(0, 2, (ROWS, 1), dtype=np.uint8) * 255, 64, axis=1)


def ascending(rng):
    rows = np.zeros((ROWS, 64), np.uint8)
    for width in WIDTHS:
        rows[:, width - 1] = np.arange(ROWS) * 256 // ROWS
    return rows


def descending(rng):
    return ascending(rng)[::-1].copy()


def distinct_after_repeats(rng):
    """Return rows of which a table counts most, before the rest is sorted."""
    rows = shuffled(rng)
    rows[: ROWS // 3] = rows[: ROWS // 3][rng.integers(0, 50, ROWS // 3)]
    return rows


def repeats_after_distinct(rng):
    return distinct_after_repeats(rng)[::-1].copy()


def repeated_in_one_half(rng):
    """Return rows of which one thread uses a table, and another sorts."""
    rows = shuffled(rng)
    rows[ROWS // 2 :] = rows[rng.integers(0, 20_000, ROWS - ROWS // 2)]
    return rows


def frequent_and_rare(rng):
    """Return rows of which half are one state, and all others are distinct."""
    rows = shuffled(rng)
    rows[rng.random(ROWS) < 0.5] = 0
    return rows


KINDS = [
    shuffled,
    only_low_bits,
    only_high_bits,
    rarely_firing,
    seldom_firing,
    clusters_in_clusters,
    few_high_words,
    all_equal,
    two_values,
    ascending,
    descending,
    distinct_after_repeats,
    repeats_after_distinct,
    repeated_in_one_half,
    frequent_and_rare,
]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_against_numpy(kind, width):
    rows = np.ascontiguousarray(kind(np.random.default_rng(0))[:, :width])
    words = words_of(width, rows)
    order = np.lexsort(words)  # stable; the last word is the primary key
    ordered = rows[order]
    first = np.ones(ROWS, bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    bounds = np.append(np.flatnonzero(first), ROWS)

    edges, index = ts.sort_states(rows)
    np.testing.assert_array_equal(index, order)
    np.testing.assert_array_equal(edges, bounds)
    counts = ts.count_states(rows)
    np.testing.assert_array_equal(counts.packed, ordered[first])
    np.testing.assert_array_equal(counts.counts, np.diff(bounds))
    # Running counts over batches, and counts that are merged, are the same.
    point = ts.CapturePoint("layer", keep="counts")
    point.declare(8 * width)
    parts = []
    for batch in np.array_split(rows, [10, 70_000, 70_000, 120_000]):
        point.append(batch, len(batch))
        parts.append(ts.count_states(batch))
    assert point.histogram() == counts
    assert sum(parts) == counts
    assert sum(reversed(parts)) == counts


SORTS = [
    *(("in the caches", "NumPy"), ("in buckets", "radix")),
    *(("in the caches", "radix"), ("in buckets", "NumPy")),
]


@pytest.mark.parametrize(("where", "sort"), thinned(SORTS, SORTS[:2]))
@pytest.mark.parametrize("kind", KINDS)
def test_sorting_words(kind, where, sort, monkeypatch):
    """Each processor has its own sort, and the number of rows tells where."""
    monkeypatch.setattr(numpy_sort, "is_fast", lambda: sort == "NumPy")
    monkeypatch.setattr(in_cache, "_ROWS", ROWS if where == "in the caches" else 0)
    rows = kind(np.random.default_rng(0))
    for width in (3, 7, 8):
        packed = np.ascontiguousarray(rows[:, :width])
        expected, times = testing.count(packed)
        for threads in (1, 3):
            states, counts = count_by_sorting(packed, split_ranges(ROWS, threads))
            np.testing.assert_array_equal(states, expected)
            np.testing.assert_array_equal(counts, times)


@pytest.mark.parametrize("width", [1, 3, 8, 9, 64])
@pytest.mark.parametrize("rows", [1, 2, 479, 8192, 8193, 20_000])
@pytest.mark.parametrize("states", [1, 3000, 1 << 20])
@pytest.mark.parametrize("sort", ["radix", "NumPy"])
def test_few_rows(rows, states, width, sort, monkeypatch):
    """Of which all are sorted at once, or the table is left early."""
    monkeypatch.setattr(numpy_sort, "is_fast", lambda: sort == "NumPy")
    rng = np.random.default_rng(rows)
    packed = rng.integers(0, 256, (states, width), dtype=np.uint8)[rng.integers(0, states, rows)]
    order = np.lexsort(words_of(width, packed))
    ordered = packed[order]
    first = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))
    edges, index = ts.sort_states(packed)
    counts = ts.count_states(packed)
    np.testing.assert_array_equal(index, order)
    np.testing.assert_array_equal(counts.packed, ordered[first])
    np.testing.assert_array_equal(counts.counts, np.diff(edges))


@pytest.mark.parametrize("width", [3, 8, 9, 64])
@pytest.mark.parametrize("states", [50, 100_000])
@pytest.mark.parametrize("threads", [2, 12, 64])
def test_each_row_is_counted_once_however_many_threads(threads, states, width, monkeypatch):
    """Each of 12 threads has fewer rows than the eighth that tells whether rows repeat."""
    monkeypatch.setattr("tensorstate_gpu._process.num_threads._MIN_BYTES", 1 << 12)
    monkeypatch.setattr("tensorstate_gpu._process.num_threads._chosen", threads)
    rng = np.random.default_rng(threads)
    packed = rng.integers(0, 256, (states, width), np.uint8)[rng.integers(0, states, 10_000)]
    counts = ts.count_states(packed)
    rows, expected = testing.count(packed)
    np.testing.assert_array_equal(counts.packed, rows)
    np.testing.assert_array_equal(counts.counts, expected)


@pytest.mark.parametrize("width", [3, 8, 16])
def test_counts_are_added_when_merged(width):
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 3, (1000, width), dtype=np.uint8)
    counts = ts.count_states(rows)
    total = counts
    for _ in range(40):
        total = total + total
    np.testing.assert_array_equal(total.packed, counts.packed)
    np.testing.assert_array_equal(total.counts, counts.counts << 40)


def test_rows_that_differ_only_at_their_low_end():
    """Recursion as deep as the rows are wide would overflow the stack."""
    rows = np.zeros((40, 200_000), np.uint8)
    rows[:, 0] = np.arange(40)[::-1]
    edges, index = ts.sort_states(rows)
    assert index.tolist() == list(range(40))[::-1]
    assert edges.tolist() == list(range(41))
    assert len(ts.count_states(rows)) == 40


@pytest.mark.serial
def test_one_different_row_among_wide_equal_ones_is_found_in_linear_time():
    rows = np.ones((10_000, 4000), np.uint8)

    def seconds():
        begun = time.process_time()  # other programs' time does not count
        ts.sort_states(rows)
        return time.process_time() - begun

    seconds()
    equal = min(seconds() for _ in range(5))
    rows[-1, 0] = 2
    assert min(seconds() for _ in range(5)) < 8 * equal  # 40 times, once


def test_rows_of_which_each_word_separates_one():
    rows = np.zeros((300, 2400), np.uint8)
    for i in range(300):
        rows[i, 8 * i] = 1  # row i differs from those before it in word i
    order = np.random.default_rng(0).permutation(300)
    _, index = ts.sort_states(rows[order])
    np.testing.assert_array_equal(order[index], np.arange(300))


@pytest.mark.serial
@pytest.mark.parametrize("words", [[0], [0, 2], [1], [0, 1, 2, 3]])
@pytest.mark.parametrize("secret", [0xA0761D6478BD642F, 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0])
def test_words_that_the_hash_multiplies_by_zero(words, secret):
    """All rows in one slot would make this take hundreds of times as long as other rows."""
    rows = np.random.default_rng(0).integers(0, 2**63, (50_000, 5)).astype("<u8")

    def seconds():
        counts = Counter(40)
        begun = time.process_time()
        counts.add(rows.view(np.uint8))
        taken = time.process_time() - begun
        assert len(counts.result()[0]) == 50_000
        return taken

    seconds()
    usual = min(seconds() for _ in range(5))
    rows[:, words] = secret
    assert min(seconds() for _ in range(5)) < 20 * usual
