"""Ctrl-C at any line of the host's code while counts are read: later reads have each row once."""

from pathlib import Path

import numpy as np
import pytest

from tensorstate_gpu import cuda
from tensorstate_gpu._states import spilling_counter
from tensorstate_gpu.cuda import narrow_table, wide_table
from tests.cuda.cases.tables import assert_histogram
from tests.support.interrupting import interrupted

pytestmark = pytest.mark.usefixtures("small_blocks")

OF_THE_DEVICE = str(Path(cuda.__file__).parent)


@pytest.mark.parametrize("width", [3, 16])
def test_refused_rows_are_counted_once_if_a_reader_is_interrupted(machine, width, monkeypatch):
    """Also if the table is just being replaced by a larger one."""
    monkeypatch.setattr(narrow_table.NarrowTable.__init__, "__defaults__", (16,))
    monkeypatch.setattr(wide_table, "FIRST_SLOTS", 16)
    rng = np.random.default_rng(width)
    rows = rng.integers(0, 256, (40, width), np.uint8)[rng.integers(0, 40, 240)]
    parts = [machine.to_device(part) for part in np.split(rows, 4)]
    for step in range(1, 1000):
        counter = cuda.counter(width)
        for part in parts:
            counter.add(part)
        came = interrupted(counter.result, step, OF_THE_DEVICE)
        assert_histogram(*map(machine.to_host, counter.result()), rows)
        if not came:
            break
    assert 100 < step < 999


def test_what_a_full_device_hands_over_is_counted_once_if_a_reader_is_interrupted(machine):
    """Sorting takes memory that it does not have, so the host takes what its table holds."""
    pool = machine.library.get_default_memory_pool()
    rows = np.random.default_rng(0).integers(0, 256, (500, 8), np.uint8)
    rows = np.concatenate([rows, rows[:100]])
    try:
        for step in range(1, 100):
            counter = spilling_counter.SpillingCounter(cuda, 8)
            counter.add(machine.to_device(rows))
            pool.free_all_blocks()
            pool.set_limit(size=pool.used_bytes())
            came = interrupted(counter.result, step, spilling_counter.__file__)
            assert came or counter._spilled is not None
            pool.set_limit(size=0)
            assert_histogram(*counter.result(), rows)
            if not came:
                break
        assert 10 < step < 99
    finally:
        pool.set_limit(size=0)
