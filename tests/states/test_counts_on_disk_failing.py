"""Counts on disk: full and failing disks, interrupts, too little memory, forks."""

import errno
import os
import shutil
import signal
import tempfile

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._process.scratch_file import ScratchFile
from tensorstate_gpu._states import merging_runs
from tensorstate_gpu._states.external_counter import ExternalCounter
from tensorstate_gpu._states.sorted_runs import MemoryRun, ScratchRun
from tensorstate_gpu.cpu_fallback import running_counts
from tensorstate_gpu.store.folder import FileSystemCalls
from tests.support.runs_on_disk import (
    BUDGET,
    counter_of,
    inputs,
    small_runs,  # noqa: F401
    stored,
)

pytestmark = pytest.mark.usefixtures("small_runs")


# ---- failures ----------------------------------------------------------------------------------


class Failing:
    """Lets writes fail, from one on, so many of them."""

    def __init__(self, monkeypatch, first, lasts, code=errno.ENOSPC):
        self.writes, self._failing, self._code = 0, range(first, first + lasts), code
        append, write = ScratchFile._write, FileSystemCalls.write

        def failing_append(file, start, values):
            self._next(file)
            append(file, start, values)

        def failing_write(system, path, parts):
            self._next(path)
            return write(system, path, parts)

        monkeypatch.setattr(ScratchFile, "_write", failing_append)
        monkeypatch.setattr(FileSystemCalls, "write", failing_write)

    def _next(self, file):
        self.writes += 1
        if self.writes in self._failing:
            raise OSError(self._code, os.strerror(self._code), str(file))


@pytest.mark.parametrize(("lasts", "code"), [(1, errno.EIO), (4, errno.ENOSPC)])
def test_a_write_that_fails_is_told_before_a_batch_is_taken_and_tried_again(
    lasts, code, monkeypatch
):
    rows = inputs(8)["changing"]
    expected = ts.count_states(rows)
    batches = np.array_split(rows, 60)
    with monkeypatch.context() as patch:
        system = Failing(patch, 0, 0)
        counter_of(rows, parts=60).runs()
        number = system.writes
    for k in range(1, number + 1, max(1, number // 8)):
        with monkeypatch.context() as patch:
            Failing(patch, k, lasts, code)
            counter, told, notes = ExternalCounter(8, BUDGET), 0, []
            for batch in batches:
                while True:
                    before = counter.total
                    try:
                        counter.add(batch)
                        break
                    except OSError as error:
                        told += 1
                        notes.append(*error.__notes__)
                        assert counter.total == before
            for _ in range(lasts + 1):
                try:
                    runs = counter.runs()
                    break
                except OSError:
                    told += 1
            assert all("TMPDIR" in note for note in notes)
            assert told, f"nobody was told of write {k} of {number}"
            assert ts.StoredCounts(runs, 64).load() == expected


def test_a_failed_write_of_the_result_leaves_nothing(tmp_path, monkeypatch):
    rows = inputs(8)["skewed"]
    monkeypatch.setattr("tensorstate_gpu.store.kept_runs._CHUNK_BYTES", 1 << 13)
    path = tmp_path / "counts.zarr"
    counts = stored(rows)
    with monkeypatch.context() as patch:
        system = Failing(patch, 0, 0)
        expected = counts.save(path).load()
    shutil.rmtree(path)
    for k in range(1, system.writes + 1):
        with monkeypatch.context() as patch:
            Failing(patch, k, 1)
            with pytest.raises(OSError, match="No space left on device"):
                counts.save(path)
        assert not [*tmp_path.iterdir()]
    assert counts.save(path).load() == expected


def test_a_temporary_file_has_no_name(tmp_path, monkeypatch):
    """So a process that is killed leaves none."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run = ScratchRun.of(8, [(inputs(8)["in order"][:10], np.ones(10, np.int64))])
    assert not [*tmp_path.iterdir()]
    assert run.read(0, 1)[1].sum() == 10


def test_a_temporary_file_that_finds_no_room_names_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def full(*_):  # as the system tells it: without a name
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ScratchFile, "_write", full)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'"):
        ScratchRun.of(8, [(inputs(8)["in order"][:10], np.ones(10, np.int64))])


def test_a_file_that_ends_early_is_an_error():
    run = ScratchRun.of(8, [(inputs(8)["new"][:10], np.ones(10, np.int64))])
    run._file._file.truncate(11)
    with pytest.raises(OSError, match="ends at byte"):
        run.read(0, 1)


# ---- interrupts, too little memory, forks ------------------------------------------------------


def no_memory(*_):
    raise MemoryError


def without_merging(patch):
    patch.setattr(merging_runs.cpu(), "merge", no_memory)
    patch.setattr(merging_runs, "_alone", no_memory)


def without_a_new_table(patch):
    patch.setattr(running_counts, "new_table", no_memory)


@pytest.mark.parametrize("forbid", [without_merging, without_a_new_table])
def test_no_memory_while_counts_move_to_a_file(forbid, monkeypatch):
    """Everything added before is kept, the batch is not taken, and the next call tries again."""
    rows = inputs(8)["new"]
    counter = ExternalCounter(8, BUDGET)
    batches = iter(np.array_split(rows, 30))
    while not counter._counter.is_full:
        counter.add(next(batches))
    before, batch = counter.total, next(batches)
    with monkeypatch.context() as patch:
        forbid(patch)
        with pytest.raises(MemoryError):
            counter.add(batch)
    assert counter.total == before
    assert not counter.has_spilled
    for rest in (batch, *batches):
        counter.add(rest)
    assert ts.StateCounts.trusted(*counter.result(), 64) == ts.count_states(rows)


def test_a_large_batch_is_counted_whole_or_not_at_all(monkeypatch):
    rows = inputs(8)["new"]
    counter = counter_of(rows[:2000])
    before, large = counter.total, rows[2000:]
    assert len(large) > 5 * counter.rows_at_a_time
    for target in ("count", "merge"):  # sorting a part, and merging parts for a file
        module = running_counts if target == "count" else merging_runs.cpu()
        call, calls = getattr(module, target), []

        def sometimes(*arguments, call=call, calls=calls):
            calls.append(arguments)
            if len(calls) == 4:
                raise MemoryError
            return call(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(module, target, sometimes)
            with pytest.raises(MemoryError):
                counter.add(large)
        assert len(calls) >= 4
        assert counter.total == before
    assert ts.StoredCounts(counter.runs(), 64).load() == ts.count_states(rows[:2000])
    counter.add(large)
    assert ts.StateCounts.trusted(*counter.result(), 64) == ts.count_states(rows)


@pytest.mark.parametrize("byte", [0, 5000])
def test_a_temporary_file_that_is_damaged_is_an_error(byte):
    counter = counter_of(inputs(8)["new"])
    run = counter.runs()[0]
    file = run._file._file.fileno()
    os.pwrite(file, bytes([os.pread(file, 1, byte)[0] ^ 4]), byte)
    with pytest.raises(OSError, match="is damaged"):
        ts.StoredCounts(counter.runs(), 64).load()


def test_counts_beyond_int64_are_an_error():
    rows = inputs(8)["in order"][:1000]
    almost = np.full(len(rows), 2**62)
    almost[7] += 2**62 - 1
    runs = [MemoryRun(rows, almost)]
    others = [MemoryRun(rows[:500], np.full(500, 2**62 - 1))]
    others[0]._counts[7] = 0
    [(_, counts)] = merging_runs.merged(runs + others, 8, 1 << 24)
    assert counts[[0, 7, 999]].tolist() == [2**63 - 1, 2**63 - 1, 2**62]
    others[0]._counts[7] = 1
    with pytest.raises(OverflowError, match="more than 9,223,372,036,854,775,807 times"):
        list(merging_runs.merged(runs + others, 8, 1 << 24))


def test_an_interrupt_while_counts_are_saved_leaves_nothing(tmp_path, monkeypatch):
    counts = stored(inputs(8)["skewed"])
    write, calls = FileSystemCalls.write, []

    def interrupted(system, path, parts):
        calls.append(path)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        write(system, path, parts)

    with monkeypatch.context() as patch:
        patch.setattr("tensorstate_gpu.store.kept_runs._CHUNK_BYTES", 1 << 13)
        patch.setattr(FileSystemCalls, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            counts.save(tmp_path / "counts.zarr")
    assert not [*tmp_path.iterdir()]
    assert counts.save(tmp_path / "counts.zarr").load() == counts.load()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_reads_and_counts_on_by_itself():
    rows = inputs(8)["new"]
    counter = counter_of(rows)
    expected = ts.count_states(rows).entropy()
    twice = ts.count_states(np.concatenate([rows, rows])).counts.sum()
    child = os.fork()
    if child == 0:
        counter.add(rows)  # spills to files of its own
        both = ts.StoredCounts(counter.runs(), 64)
        os._exit(0 if both.total == twice and both.entropy() == pytest.approx(expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
    counts = ts.StoredCounts(counter.runs(), 64)
    assert counts.total == len(rows)
    assert counts.entropy() == pytest.approx(expected, rel=1e-14)
