"""Counting and sorting many rows however they are distributed: tables, sorting, both in one."""

import numpy as np
import pytest

import tensorstate_gpu as ts

ROWS = 150_000
WIDTHS = [1, 3, 7, 8, 9, 16, 64]


def words_of(width, rows):
    """Rows as a list of uint64 words, lowest first."""
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


def few_high_words(rng):
    """Four values of the highest 16 bits, everything below at random: runs that stay tied."""
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
    """The table counts most of it, then gives up: both ways in one result."""
    rows = shuffled(rng)
    rows[: ROWS // 3] = rows[: ROWS // 3][rng.integers(0, 50, ROWS // 3)]
    return rows


def repeats_after_distinct(rng):
    return distinct_after_repeats(rng)[::-1].copy()


def repeated_in_one_half(rng):
    """One thread's table does, the other gives up."""
    rows = shuffled(rng)
    rows[ROWS // 2 :] = rows[rng.integers(0, 20_000, ROWS - ROWS // 2)]
    return rows


def frequent_and_rare(rng):
    """One state in half of the rows, all others but once."""
    rows = shuffled(rng)
    rows[rng.random(ROWS) < 0.5] = 0
    return rows


KINDS = [
    shuffled,
    only_low_bits,
    only_high_bits,
    rarely_firing,
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
    order = np.lexsort(words)  # stable, the last word counts most
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
