"""Too little memory for running counts: a batch is counted completely or not at all."""

import subprocess
import sys

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import testing as oracle
from tensorstate_gpu.cpu_fallback import counter, running_counts
from tensorstate_gpu.cpu_fallback.narrow_table import NarrowTable
from tensorstate_gpu.cpu_fallback.table import never_stop
from tensorstate_gpu.cpu_fallback.wide_table import WideTable


def rows_of(number, width, distinct, seed):
    """Rows that repeat, some of zeros and some of ones."""
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, 256, (distinct, width), np.uint8)
    pool[0], pool[-1] = 0, 255
    return pool[rng.integers(0, distinct, number)]


class Memory:
    """Tables may grow so many times."""

    def __init__(self, monkeypatch):
        self.left = 1000
        for table in (NarrowTable, WideTable):
            monkeypatch.setattr(table, "_grow", self.limited(table._grow))

    def limited(self, grow):
        def call(table):
            self.left -= 1
            if self.left < 0:
                raise MemoryError("Unable to allocate 2.00 GiB")
            grow(table)

        return call


@pytest.fixture
def memory(monkeypatch):
    monkeypatch.setattr(running_counts, "_MOST_WAITING", 0)  # each batch is counted as it comes
    return Memory(monkeypatch)


def assert_counts(found, batches):
    rows = np.concatenate([rows for rows, _ in batches])
    times = np.concatenate([times for _, times in batches])
    distinct, _ = oracle.count(rows)
    totals = dict.fromkeys(map(bytes, distinct), 0)
    for row, number in zip(map(bytes, rows), times.tolist(), strict=True):
        totals[row] += number
    np.testing.assert_array_equal(found[0], distinct)
    np.testing.assert_array_equal(found[1], list(totals.values()))


@pytest.mark.parametrize(("width", "weighted"), [(3, False), (8, True), (9, False), (33, True)])
def test_a_batch_is_counted_completely_or_not_at_all(width, weighted, memory):
    """Whenever growing fails; the next batch finds the table as it was."""
    rng = np.random.default_rng(width)
    for left in range(3):
        running, counted = counter(width), []
        for number, allowed in enumerate([1000, left, 0, 0, 1000]):
            rows = rows_of(6000, width, 3000, seed=number)
            times = rng.integers(1, 9, len(rows)) if weighted else np.ones(len(rows), np.int64)
            memory.left = allowed
            try:
                running.add(rows, times if weighted else None)
                counted.append((rows, times))
            except MemoryError as error:
                assert f"states of {width} bytes (" in str(error)  # noqa: PT017
            assert running.total == sum(times.sum() for _, times in counted)
            assert_counts(running.result(), counted)
        assert len(counted) >= 2


@pytest.mark.parametrize("width", [8, 16])
def test_tables_of_threads_are_merged_completely_or_not_at_all(width, memory, monkeypatch):
    monkeypatch.setattr(
        sys.modules["tensorstate_gpu.cpu_fallback.running_counts"],
        "thread_ranges",
        lambda rows, _: [(i * rows // 3, (i + 1) * rows // 3) for i in range(3)],
    )
    first, second = (rows_of(30_000, width, 15_000, seed) for seed in (0, 1))
    raised = 0
    for left in range(12):
        running, counted = counter(width), []
        for rows, allowed in ((first[:600], 1000), (second, left), (second, 1000)):
            memory.left = allowed
            try:
                running.add(rows)
                counted.append((rows, np.ones(len(rows), np.int64)))
            except MemoryError:
                raised += 1
            assert running.total == sum(len(rows) for rows, _ in counted)
            assert_counts(running.result(), counted)
    assert 3 < raised < 12


@pytest.mark.parametrize("width", [3, 9])
def test_batches_that_wait_are_counted_beside_a_table_that_cannot_grow(width, memory, monkeypatch):
    monkeypatch.setattr(running_counts, "_MOST_WAITING", 1 << 17)
    running, counted = counter(width), []
    for number in range(30):
        rows = rows_of(600, width, 3000, seed=number)
        running.add(rows)
        counted.append((rows, np.ones(len(rows), np.int64)))
        memory.left = 0
    for allowed in (0, 0, 1000):
        memory.left = allowed
        assert_counts(running.result(), counted)
    running.add(counted[0][0])
    assert_counts(running.result(), [*counted, counted[0]])


def test_batches_that_cannot_be_counted_wait_on(memory, monkeypatch):
    monkeypatch.setattr(running_counts, "_MOST_WAITING", 1 << 17)
    running, counted = counter(9), []
    for number in range(8):
        rows = rows_of(600, 9, 3000, seed=number)
        running.add(rows)
        counted.append((rows, np.ones(len(rows), np.int64)))

    def no_memory(_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(running_counts, "count", no_memory)
        memory.left = 0
        with pytest.raises(MemoryError):
            running.add(rows)
        with pytest.raises(MemoryError):
            running.result()
    assert running.total == 8 * 600
    memory.left = 1000
    assert_counts(running.result(), counted)


@pytest.mark.parametrize("labelled", [True, False])
def test_a_capture_can_be_read_and_goes_on(labelled, memory):
    point = ts.CapturePoint("layer", keep="counts", groups=8)
    point.declare(64)
    twin = ts.CapturePoint("layer", keep="counts", groups=8)
    twin.declare(64)
    parts = [rows_of(6000, 8, 3000, seed) for seed in range(3)]
    for number, rows in enumerate(parts):
        labels = np.arange(2000) % 3 if labelled else None
        memory.left = 0 if number == 1 else 1000
        if number == 1:
            with pytest.raises(MemoryError, match=r"no memory for more than .* states of 16 bytes"):
                point.append(rows, 2000, labels)
            continue
        point.append(rows, 2000, labels)
        twin.append(rows, 2000, labels)
        assert point.histogram() == twin.histogram()
        assert point.grouped() == twin.grouped()
        if labelled:
            assert point.counts_by() == twin.counts_by()
    assert (point.state_count, point.instance_count) == (12_000, 4000)


def test_the_error_tells_what_helps(memory):
    point = ts.CapturePoint("layer", keep="counts")
    point.declare(64)
    memory.left = 0
    with pytest.raises(MemoryError, match=r"can be read\. A store .* \(storage_path=\)"):
        point.append(rows_of(6000, 8, 3000, 0), 2000)


LIMITED = """
import resource, numpy as np, tensorstate_gpu as ts
point = ts.CapturePoint("layer", keep="counts")
point.declare(64)
def batch(seed):
    return np.random.default_rng(seed).integers(0, 2**62, 2**20).view(np.uint8).reshape(-1, 8)
point.append(batch(0), 1)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
counted, seed = 1, 0
try:
    for seed in range(1, 40):
        point.append(batch(seed), 1)
        counted += 1
except MemoryError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert counted < 39 and point.histogram().total == point.state_count == counted * 2**20
point.append(batch(seed), 1)
expected = ts.count_states(np.concatenate([batch(each) for each in range(counted + 1)]))
assert point.histogram() == expected
print("as expected")
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="limits address space as Linux does")
def test_memory_that_is_really_short():
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True)
    assert "none of 1,048,576 rows was counted" in done.stdout
    assert "as expected" in done.stdout, done.stderr


@pytest.mark.parametrize("width", [5, 8, 16, 100])
def test_rows_that_another_thread_has_changed_are_not_looked_for_without_end(width):
    rows = np.unique(rows_of(3000, width, 3000, 0), axis=0)
    table = (NarrowTable if width <= 8 else WideTable)(width)
    assert table.add(rows, None, 0, len(rows), never_stop) == len(rows)
    table.take_back(rows, None, 0, 7)  # as long as they are the same
    assert len(table) == (len(rows) - 7 if width <= 8 else len(rows))
    changed = rows.copy()
    changed[100] = rows[100] ^ 0x55
    with pytest.raises(RuntimeError, match="another thread has changed them"):
        table.take_back(changed, None, 7, len(rows))
