"""Ranges of sorted runs, and runs joined of ranges, as runs."""

import numpy as np
import pytest

from tensorstate_gpu._states import sorted_runs
from tensorstate_gpu._states.backends import cpu
from tensorstate_gpu._states.merging_runs import merged, ranges_of
from tensorstate_gpu._states.sorted_runs import JoinedRun, MemoryRun, RangeOfRun, order_key

LIMITS = [None, b"\0\0", b"\x05", b"\x33\x07", b"\x80", b"\xf0\x01", b"\xff\xff\0"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(sorted_runs, "_BLOCK_BYTES", 16)
    monkeypatch.setattr(sorted_runs, "_LEAST_BLOCK_ROWS", 4)


def new_run(seed, rows=100):
    states = np.random.default_rng(seed).integers(0, 256, (rows, 2), dtype=np.uint8)
    return MemoryRun(*cpu().count(states))


def entries(run, first=0, last=None):
    rows, counts = run.read(first, len(run.fences) if last is None else last)
    return dict(zip(map(order_key, rows), counts.tolist(), strict=True))


def between(found, low, high):
    return {
        key: count
        for key, count in found.items()
        if (low is None or low <= key) and (high is None or key < high)
    }


@pytest.mark.parametrize("low", LIMITS)
@pytest.mark.parametrize("high", LIMITS)
def test_a_range_is_a_run(low, high):
    run = new_run(0)
    part, expected = RangeOfRun(run, low, high), between(entries(run), low, high)
    assert entries(part) == expected
    by_block = [entries(part, block, block + 1) for block in range(len(part.fences))]
    assert {key: count for block in by_block for key, count in block.items()} == expected
    assert part.fences == sorted(part.fences)
    for fence, size, block in zip(part.fences, part.sizes, by_block, strict=True):
        assert low is None or fence >= low
        assert all(key >= fence for key in block)
        assert len(block) <= size


def test_ranges_joined_are_the_whole():
    run = new_run(0)
    limits = [limit for limit in ranges_of([run], 5) if limit is not None]
    assert len(limits) == 5
    joined = JoinedRun([RangeOfRun(run, *limit) for limit in limits])
    assert entries(joined) == entries(run)
    for first, last in ((0, 0), (0, 1), (3, 9), (len(joined.fences), len(joined.fences))):
        found = entries(joined, first, last)
        assert list(found) == sorted(found)
        fences = [*joined.fences, b"\xff\xff\xff"]
        assert found == between(entries(run), fences[first], fences[last])


def test_only_runs_with_blocks_of_the_range_are_read():
    read = []

    class Watched(MemoryRun):
        def read(self, first, last):
            read.append((self.fences[0], first, last))
            return super().read(first, last)

    runs = []
    for high_byte in range(3):  # each is above the previous one, and has 5 blocks
        low = np.arange(40, dtype=np.uint8)
        states = np.column_stack([low, np.full_like(low, high_byte)])
        runs.append(Watched(states, np.arange(1, 41)))
    joined, starts = JoinedRun(runs), [run.fences[0] for run in runs]
    assert len(joined.fences) == 15
    whole = list(entries(joined).items())
    ranges = {
        (4, 5): [(0, 4, 5)],
        (5, 10): [(1, 0, 5)],
        (4, 6): [(0, 4, 5), (1, 0, 1)],
        (3, 11): [(0, 3, 5), (1, 0, 5), (2, 0, 1)],
        (10, 10): [(0, 0, 0)],  # nothing of any: an empty histogram of the same type
        (15, 15): [(0, 0, 0)],
    }
    for (first, last), expected in ranges.items():
        read.clear()
        found = list(entries(joined, first, last).items())
        assert read == [(starts[run], *blocks) for run, *blocks in expected]
        assert found == whole[8 * first : 8 * last]


def test_ranges_do_not_depend_on_the_order_of_runs():
    runs = [new_run(seed) for seed in range(3)]
    assert ranges_of(runs, 4) == ranges_of(runs[::-1], 4)
    assert ranges_of(runs[:1], 99)[40:] == [None] * 59  # there are fewer blocks


def test_no_piece_is_empty():
    # Of one run, the only block that may have rows of the range has none.
    one = MemoryRun(np.array([[0, 1], [0, 2]], np.uint8), np.array([1, 1]))
    other = MemoryRun(np.array([[0, 7], [0, 8]], np.uint8), np.array([1, 1]))
    parts = [RangeOfRun(run, b"\x05", None) for run in (one, other)]
    for runs in (parts, parts[:1]):
        pieces = [len(rows) for rows, _ in merged(runs, 2, 1 << 10)]
        assert 0 not in pieces
        assert sum(pieces) == 2 * len(runs) - 2
