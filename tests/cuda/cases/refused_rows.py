"""Memory for the rows that tables refuse: freed early, shared by all tables, and never lost."""

import threading
import weakref

import numpy as np
import pytest

from tensorstate_gpu import cuda
from tensorstate_gpu.cuda import host_copy, refused, table
from tests.cuda.cases.tables import (
    assert_counted,
    assert_histogram,
    let_the_device_finish,
    table_of,
)

ROWS, WIDTH = 2000, 8
LIST = ROWS * WIDTH  # bytes


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Each batch asks for a report, and three lists of refused rows are the most."""
    refused.reports_of.cache_clear()
    monkeypatch.setattr(table, "_LEAST_REPORTED", 1)
    for module in (refused, table):
        monkeypatch.setattr(module, "MOST_BYTES", 3 * LIST)


def rows_of(seed, distinct):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (distinct, WIDTH), np.uint8)[rng.integers(0, distinct, ROWS)]


def held_by(tables):
    """Bytes of memory for refused rows."""
    batches = [each for one in tables for each in one._unsettled]
    return sum(each.nbytes for each in batches if each.rows is not None)


def test_the_next_table_frees_it(machine):
    """If nothing was refused, which is known before the layer gets another batch."""
    tables = [table_of(WIDTH) for _ in range(5)]
    for seed, one in enumerate(tables):
        one.add(machine.to_device(rows_of(seed, 50)))
        let_the_device_finish()
    assert held_by(tables) == LIST
    for seed, one in enumerate(tables):
        one.add(machine.to_device(rows_of(seed, 50)))
        assert_counted(machine, one, np.concatenate(2 * [rows_of(seed, 50)]))


@pytest.mark.parametrize("distinct", [50, 600])
def test_a_host_that_is_far_ahead_waits_for_the_oldest(machine, distinct, monkeypatch):
    """600 do not fit into a new table: their lists stay."""
    waits, numpy = [], host_copy.AsyncHostCopy.numpy
    monkeypatch.setattr(host_copy.AsyncHostCopy, "arrived", lambda copy: None)
    monkeypatch.setattr(
        host_copy.AsyncHostCopy, "numpy", lambda copy: waits.append(copy) or numpy(copy)
    )
    tables = [table_of(WIDTH) for _ in range(9)]
    for number, one in enumerate(tables, 1):
        one.add(machine.to_device(rows_of(number, distinct)))
        assert len(waits) == max(0, number - 3)
        held = number if distinct == 600 else min(number, 3)
        assert held_by(tables) == held * LIST
    for number, one in enumerate(tables, 1):
        assert_counted(machine, one, rows_of(number, distinct))


def test_a_host_that_is_passes_ahead_waits_also_for_what_is_in_no_report(machine, monkeypatch):
    """While a table's report is under way, it asks for no other."""
    waited_for, numpy, copy = set(), host_copy.AsyncHostCopy.numpy, host_copy.AsyncHostCopy.copy
    for name, method in {
        "numpy": lambda one: waited_for.add(one) or numpy(one),
        "copy": lambda one, array: waited_for.discard(one) or copy(one, array),
        "arrived": lambda one: numpy(one) if one in waited_for else None,
    }.items():
        monkeypatch.setattr(host_copy.AsyncHostCopy, name, method)
    tables = [table_of(WIDTH) for _ in range(3)]
    for seed in range(8):
        for one in tables:
            one.add(machine.to_device(rows_of(seed, 50)))
            assert held_by(tables) <= (3 + len(tables)) * LIST
    for one in tables:
        assert_counted(machine, one, np.concatenate([rows_of(seed, 50) for seed in range(8)]))


def test_a_batch_is_not_counted_if_the_host_cannot_wait(machine, monkeypatch):
    """As while a thread records a graph, when CUDA refuses it."""

    def refuse(copy):
        raise RuntimeError("cudaErrorStreamCaptureUnsupported")

    counters, failed = [cuda.counter(WIDTH) for _ in range(9)], []
    with monkeypatch.context() as patch:
        patch.setattr(host_copy.AsyncHostCopy, "arrived", lambda copy: None)
        patch.setattr(host_copy.AsyncHostCopy, "numpy", refuse)
        for seed, counter in enumerate(counters):
            try:
                counter.add(machine.to_device(rows_of(seed, 50)))
            except RuntimeError:
                failed.append(counter)
    assert failed == counters[3:]
    for seed, counter in enumerate(counters):
        rows = rows_of(seed, 50)[: 0 if counter in failed else None]
        assert counter.total == len(rows)
        assert_histogram(*map(machine.to_host, counter.result()), rows)


def test_one_table_alone_waits_for_its_own(machine, monkeypatch):
    monkeypatch.setattr(host_copy.AsyncHostCopy, "arrived", lambda copy: None)
    one = table_of(WIDTH)
    for seed in range(9):
        one.add(machine.to_device(rows_of(seed, 50)))
        assert held_by([one]) <= 4 * LIST
    assert_counted(machine, one, np.concatenate([rows_of(seed, 50) for seed in range(9)]))


def test_tables_that_are_gone_have_no_memory(machine):
    one = table_of(WIDTH)
    one.add(machine.to_device(rows_of(0, 50)))
    report = weakref.ref(one._report)
    del one
    assert report() is None
    table_of(WIDTH).add(machine.to_device(rows_of(1, 50)))


def test_a_report_that_its_table_has_read_is_not_waited_for(machine, monkeypatch):
    tables, waits = [table_of(WIDTH) for _ in range(6)], []
    for seed, one in enumerate(tables):
        with monkeypatch.context() as patch:
            patch.setattr(host_copy.AsyncHostCopy, "arrived", lambda copy: None)
            patch.setattr(host_copy.AsyncHostCopy, "numpy", waits.append)
            one.add(machine.to_device(rows_of(seed, 50)))
        one.finish()
    assert not waits


@pytest.mark.parametrize("seed", range(3))
def test_tables_of_several_threads(machine, seed):
    """Each frees memory of the others, while they count, grow, are read and are drained."""
    errors = []

    def use(thread):
        rng = np.random.default_rng([seed, thread])
        tables, added = [table_of(WIDTH) for _ in range(3)], [[] for _ in range(3)]
        try:
            for step in range(12):
                chosen = rng.integers(3)
                added[chosen].append(rows_of([seed, thread, step], [50, 200, 700][chosen]))
                tables[chosen].add(machine.to_device(added[chosen][-1]))
            for one, batches in zip(tables, added, strict=True):
                assert_counted(machine, one, np.concatenate(batches))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not errors, errors
