"""Rows that are made to share a slot: without a seed, counting them would be quadratic."""

import itertools

import numpy as np
import pytest

from tensorstate_gpu.cpu_fallback import narrow_table, wide_table
from tensorstate_gpu.cpu_fallback.table import never_stop

ROWS = 1000
KNOWN = 0x1234567890ABCDEF
WORD = (1 << 64) - 1


def fold(one, other):
    return (one * other >> 64) ^ (one * other & WORD)


def crafted_keys():
    """Return keys whose slots in any table are among its first 256th, if the seed is KNOWN."""
    golden = 0x9E3779B97F4A7C15
    factor = KNOWN * golden & WORD | 1
    crafted = (
        key for key in itertools.count() if not fold(fold(key ^ KNOWN, golden) ^ key, factor) >> 56
    )
    return np.array([*itertools.islice(crafted, ROWS)], np.uint64)


def crafted_rows():
    """Like crafted_keys(), for rows of two words: the low bits of their hash choose a slot."""
    first = 0x9E3779B97F4A7C15 ^ KNOWN
    first ^= fold(0xA0761D6478BD642F ^ KNOWN, first)  # after a first word of 0
    last = 0xC2B2AE3D27D4EB4F + KNOWN & WORD
    crafted = (
        word
        for word in itertools.count()
        if not (fold(first ^ word, last) ^ first ^ word) >> 4 & 255
    )
    return np.array([(0, word) for word in itertools.islice(crafted, ROWS)], np.uint64)


TABLES = {
    "narrow": (narrow_table, lambda: narrow_table.NarrowTable(8), crafted_keys),
    "wide": (wide_table, lambda: wide_table.WideTable(16), crafted_rows),
}


def longest_run(table, rows):
    """The longest run of used slots once a table has counted the rows."""
    number = len(rows)
    packed = rows.view(np.uint8).reshape(number, -1)
    assert table.add(packed, None, 0, number, never_stop) == len(table) == number
    counts = table._slots.reshape(len(table._slots), -1)[:, -1]
    return int(np.diff(np.flatnonzero(counts == 0), prepend=-1).max())


def test_no_seed_sends_regular_rows_to_a_few_slots(monkeypatch):
    """With one round of multiplication alone, one in a hundred sends some hundred to one."""
    rows = np.arange(8192, dtype=np.uint64) << np.uint64(40)
    runs = []
    for seed in np.random.default_rng(0).integers(0, 1 << 63, 300, np.uint64):
        monkeypatch.setattr(narrow_table, "SEED", seed)
        runs.append(longest_run(narrow_table.NarrowTable(8), rows))
    assert max(runs) < 60


@pytest.mark.parametrize("kind", TABLES)
def test_rows_for_a_known_seed_do_not_collide_here(kind, monkeypatch):
    module, new_table, crafted = TABLES[kind]
    rows = crafted()
    assert longest_run(new_table(), rows) < 150
    monkeypatch.setattr(module, "SEED", np.uint64(KNOWN))
    assert longest_run(new_table(), rows) > 500
