"""Stores that keep counts: full and failing disks, flipped bits, too little memory, Ctrl-C."""

import errno
import os
import shutil
import signal
import time

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.store import kept_runs
from tensorstate_gpu.store.background_writer import BackgroundWriter
from tests.support.points import new_point, rows_of
from tests.support.samples import sample, sweep
from tests.support.store_runs import (
    Capture,
    CountingSystem,
    number_of_operations,
    run_while_operations_fail,
    system_as_it_was,  # noqa: F401 a fixture
)


@pytest.mark.parametrize(("code", "lasts"), [(errno.EIO, 1), (errno.ENOSPC, 4)])
@sweep
def test_a_failing_operation_is_told_and_the_capture_goes_on(every, code, lasts, quick_path):
    path = quick_path
    numbers = range(1, number_of_operations(path, keep="counts") + 1)
    for k in sample(numbers, 4, every, seed=str(code)):
        run_while_operations_fail(
            path, range(k, k + lasts), code, ("unlink", "rmdir"), keep="counts"
        )
        assert ts.Store(path).verify().orphans == []
        shutil.rmtree(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A store with runs of several chunks."""
    path = tmp_path_factory.mktemp("finished") / "run.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_runs, "_CHUNK_BYTES", 240)
        patch.setattr(kept_runs, "_LEAST_CHUNK_ROWS", 64)
        Capture(path, keep="counts").run()
    return path


def files(path):
    return [file for file in sorted(path.rglob("*")) if file.is_file()]


def read_all(path):
    for layer in ts.Store(path).efficiency_layers:
        layer.histogram()


@sweep
def test_a_flipped_bit_in_any_file_is_found(every, finished):
    read_all(finished)
    for file in files(finished):
        whole = file.read_bytes()
        for place in sample(range(len(whole)), 2, every, seed=str(file.relative_to(finished))):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << place % 8
            file.write_bytes(damaged)
            if file == finished / "zarr.json":
                with pytest.raises(ValueError, match=r"run\.zarr"):
                    ts.Store(finished)
                continue
            problems = ts.Store(finished).verify().problems
            assert any(str(file) in problem for problem in problems), (file, place, problems)
            if file.name != "zarr.json":
                with pytest.raises(ValueError, match=r"run\.zarr") as raised:
                    read_all(finished)
                assert str(file) in str(raised.value)
        file.write_bytes(whole)
    assert ts.Store(finished).verify().good


def test_a_missing_file_is_found(finished):
    for file in sample(files(finished)[:-1], 10):
        whole = file.read_bytes()
        file.unlink()
        problems = ts.Store(finished).verify().problems
        assert any(str(file) in problem for problem in problems), (file, problems)
        file.write_bytes(whole)


def test_a_run_that_does_not_fit_the_ledger_is_damage(finished, tmp_path):
    from tests.support.labelled_store import rewrite

    path = shutil.copytree(finished, tmp_path / "run.zarr")

    def one_more(about):
        about["attributes"]["tensorstate"]["layers"]["conv"]["counts"]["runs"][0]["total"] += 1

    rewrite(path / "zarr.json", one_more)
    with pytest.raises(ValueError, match="neurons and 41 instances"):
        ts.Store(path)


def test_no_memory_while_counts_are_committed(tmp_path, monkeypatch):
    """The commit is tried again by the next one, and reading sees all rows meanwhile."""
    from tensorstate_gpu._states import merging_runs

    rows = rows_of(900, 24)
    store = ts.Store(tmp_path / "run.zarr", "x", commit_seconds=None)
    point = new_point(store, neurons=24, keep="counts")
    point.append(rows[:300], 300)
    store.commit()
    point.append(rows[300:600], 300)

    def no_memory(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(merging_runs.cpu(), "merge", no_memory)
        with pytest.raises(MemoryError):
            store.commit()
    assert point.histogram() == ts.count_states(rows[:600], 24)
    assert ts.Store(tmp_path / "run.zarr")["layer"].histogram() == ts.count_states(rows[:300], 24)
    point.append(rows[600:], 300)
    store.close()
    assert ts.Store(tmp_path / "run.zarr")["layer"].histogram() == ts.count_states(rows, 24)
    assert ts.Store(tmp_path / "run.zarr").verify().orphans == []


def test_ctrl_c_while_counts_are_committed(tmp_path, monkeypatch):
    rows = rows_of(600, 24)
    store = ts.Store(tmp_path / "run.zarr", "x", commit_seconds=None)
    point = new_point(store, neurons=24, keep="counts")
    point.append(rows[:300], 300)
    write = kept_runs.write_run

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("tensorstate_gpu.store.counts_writer.write_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.commit()
    point.append(rows[300:], 300)
    assert point.histogram() == ts.count_states(rows, 24)
    store.close()
    assert ts.Store(tmp_path / "run.zarr")["layer"].histogram() == ts.count_states(rows, 24)


@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize("queued", [1, 2, 3, 4])
def test_ctrl_c_while_a_commit_is_queued(tmp_path, monkeypatch, keep, queued):
    """After each job that the commit of two layers queues; the first one runs into the next one."""
    rows = rows_of(600, 24)
    store = ts.Store(tmp_path / "run.zarr", "x", commit_seconds=None)
    points = [new_point(store, name, neurons=24, keep=keep) for name in ("layer", "other")]
    for point in points:
        point.append(rows[:300], 300)
    submit, jobs = BackgroundWriter.submit, []

    def interrupted(self, work, *size, **how):
        jobs.append(work)
        slowed = work
        if len(jobs) == 1:

            def slowed():
                time.sleep(0.2)
                work()

        submit(self, slowed, *size, **how)
        if len(jobs) == queued:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(BackgroundWriter, "submit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.commit()
    for point in points:
        point.append(rows[300:], 300)
    store.close()
    read = ts.Store(tmp_path / "run.zarr")
    for name in ("layer", "other"):
        assert read[name].histogram() == ts.count_states(rows, 24)
    assert read.verify().orphans == []


def test_a_commit_that_fails_is_told_before_the_next_batch_is_taken(tmp_path):
    path = tmp_path / "run.zarr"
    store = ts.Store(path, "x", commit_seconds=None)
    point = new_point(store, neurons=24, keep="counts")
    rows = np.zeros((10, 3), np.uint8)
    point.append(rows, 10)

    def full(number, operation, file):
        raise OSError(errno.ENOSPC, "No space left on device", str(file))

    CountingSystem(full).install(path)
    with pytest.raises(OSError, match="No space left on device"):
        store.commit()
    point.append(rows, 10)
    store.session.writer.submit_commit()
    with pytest.raises(OSError, match="No space left on device"):  # noqa: PT012
        for _ in range(10**6):  # until the writing thread has had its turn
            before = point.state_count
            point.append(rows, 10)
    assert point.state_count == before
    CountingSystem(lambda *_: None).install(path)
    store.close()
    assert ts.Store(path)["layer"].histogram().counts.tolist() == [before]
