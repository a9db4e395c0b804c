"""Stores when threads, failures and ends come at awkward moments: nothing is lost in silence."""

import errno
import os
import shutil
import signal
import sys
import threading
import time

import numpy as np
import pytest
from zarr.codecs import ZstdCodec

import tensorstate_gpu as ts
from tensorstate_gpu.store.folder import FileSystemCalls, Folder
from tests.support.points import new_point, rows_of
from tests.support.waiting import wait_until


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run"


@pytest.mark.parametrize("compressor", [None, ZstdCodec(level=1)], ids=["plain", "zstd"])
@pytest.mark.parametrize("look", [True, False])
def test_growing_on_after_a_commit_of_half_a_chunk(compressor, look, path):
    with ts.Store(path, "x", compressor=compressor) as store:
        point = new_point(store)
        expected, labels = [], []
        for count in (100_000, 100_000, 100_000, 10, 400_000, 1):
            point.append(rows_of(count, seed=count), count, np.arange(count))
            expected.append(rows_of(count, seed=count))
            labels.append(np.arange(count))
            if look:
                point.efficiency()
            if count == 10:
                store.commit()
                store.commit()
    layer = ts.Store(path)["layer"]
    np.testing.assert_array_equal(layer[:], np.concatenate(expected))
    np.testing.assert_array_equal(layer.labels(), np.concatenate(labels))
    assert ts.Store(path).verify().good


def test_two_jobs_do_not_write_the_shape_of_an_array_at_once(path):
    """A layer without rows is committed, and a job creates its array for the first rows."""
    begun, at_once, at_work = threading.Event(), [], set()

    class Slow(FileSystemCalls):
        def write(self, file, parts):
            at_once.extend({file} & at_work)
            at_work.add(file)
            if file.name.startswith("zarr.json"):
                begun.set()
                time.sleep(0.1)
            super().write(file, parts)
            at_work.discard(file)

    with ts.Store(path, "x", commit_seconds=None) as store, pytest.MonkeyPatch.context() as patch:
        point = new_point(store)
        point.append(rows_of(0), 3)
        store.commit()
        patch.setattr(Folder, "system", Slow())
        point.append(rows_of(1 << 22), 1 << 22)  # full chunks: the first of them creates the array
        begun.wait(60)
        writer = store.session.writer
        writer._layers["layer"].update_metadata(writer.record.layers["layer"])
        store.commit()
        assert not at_once
    np.testing.assert_array_equal(ts.Store(path)["layer"][:], rows_of(1 << 22))


def test_labels_that_are_no_unicode_keep_nothing_of_their_batch(path):
    with ts.Store(path, "x") as store:
        point = new_point(store)
        with pytest.raises(ValueError, match="labels in a store must be valid Unicode"):
            point.append(rows_of(2), 2, ["a", os.fsdecode(b"caf\xe9")])
        point.append(rows_of(3), 3, ["a", "b", "ü"])
        with pytest.raises(TypeError, match="labels in this store are strings, got integers"):
            point.append(rows_of(2), 2, [1, 2])
    layer = ts.Store(path)["layer"]
    assert layer.labels().tolist() == ["a", "b", "ü"]
    np.testing.assert_array_equal(layer[:], rows_of(3))
    with ts.Store(path, "a") as store:
        assert new_point(store).state_count == 3


def test_labels_that_were_refused_first_leave_no_array(path):
    with ts.Store(path, "x") as store:
        point = new_point(store)
        with pytest.raises(ValueError, match="below 2\\*\\*63"):
            point.append(rows_of(1), 1, np.array([2**63], np.uint64))
        point.append(rows_of(2), 2)
    with ts.Store(path, "a") as store:
        new_point(store).append(rows_of(1), 1, ["a"])
    assert ts.Store(path)["layer"].state_count == 3
    assert ts.Store(path).verify().good


def test_nothing_is_committed_within_a_slow_forward_pass(path):
    store = ts.Store(path, "x", commit_seconds=0.1)
    first, second = new_point(store, "a"), new_point(store, "b")
    first.append(rows_of(5), 5)
    time.sleep(0.5)
    assert ts.Store(path).record.commits == 0
    second.append(rows_of(5), 5)
    wait_until(lambda: ts.Store(path).record.commits)
    store.close()


def test_saving_while_another_thread_captures(path):
    point = ts.CapturePoint("layer")
    point.declare(16)
    point.append(rows_of(1 << 21), 1 << 21, np.zeros(1 << 21, np.int8))
    ended = threading.Event()

    def capture():
        # With a pause: else the save would wait 5 ms for Python's lock at each thing that it does.
        while not ended.wait(0.001):
            point.append(rows_of(3), 3, [1, 2, 3])

    thread = threading.Thread(target=capture)
    thread.start()
    ts.Run([point]).save(path)
    ended.set()
    thread.join()
    layer = ts.Store(path)["layer"]
    assert layer.state_count == len(layer.labels()) == len(layer[:]) >= 1 << 21


def test_a_save_that_fails_leaves_nothing(path, monkeypatch):
    points = [ts.CapturePoint(name) for name in "ab"]
    for point in points:
        point.declare(16)
        point.append(rows_of(100), 100, np.arange(100))
    too_large = ts.CapturePoint("c")
    too_large.declare(16)
    too_large.append(rows_of(1), 1, np.array([2**63], np.uint64))
    with pytest.raises(ValueError, match="below 2\\*\\*63"):
        ts.Run([*points, too_large]).save(path)
    assert not path.exists()

    class Full(FileSystemCalls):
        def write(self, file, parts):
            if file.parent.parent.name == "b":
                raise OSError(errno.ENOSPC, "full")
            super().write(file, parts)

    monkeypatch.setattr(Folder, "system", Full())
    with pytest.raises(OSError, match="full"):
        ts.Run(points).save(path)
    monkeypatch.undo()
    ts.Run(points).save(path)  # the path is free
    assert ts.Store(path).verify().good


def test_labels_of_several_integer_types_are_saved(path):
    point = ts.CapturePoint("layer")
    point.declare(16)
    point.append(rows_of(2), 2, np.array([1, 2], np.int64))
    point.append(rows_of(2), 2, np.array([3, 4], np.uint8))
    ts.Run([point]).save(path)
    assert ts.Store(path)["layer"].labels().tolist() == [1, 2, 3, 4]


def test_what_was_given_up_is_told_and_does_not_hang(path):
    store = ts.Store(path, "x")
    point = new_point(store)
    point.append(rows_of(1 << 23), 1 << 23)
    while path.exists():  # while chunks are still being written
        shutil.rmtree(path, ignore_errors=True)
    with pytest.raises((RuntimeError, OSError)):
        store.close()
    store.session.writer.life.abandon()
    for _ in range(2):
        with pytest.raises((RuntimeError, OSError, ValueError)):
            point.histogram()


def test_a_failure_while_nothing_comes_is_told(path, monkeypatch):
    store = ts.Store(path, "x", commit_seconds=0.1)
    point = new_point(store)
    failed = threading.Event()
    cut = type(point.intake.accumulator._storage).snapshot

    def no_memory(self):
        if not failed.is_set():
            failed.set()
            raise MemoryError("once")
        return cut(self)

    monkeypatch.setattr(type(point.intake.accumulator._storage), "snapshot", no_memory)
    point.append(rows_of(5), 5)
    assert failed.wait(600)
    wait_until(lambda: store.session.writer._background._unraised_error)
    with pytest.raises(MemoryError):
        point.append(rows_of(5), 5)
    store.close()
    assert ts.Store(path)["layer"].state_count == 5


def test_batches_of_other_threads_are_committed_or_refused_by_close(path):
    for k in range(5):
        store = ts.Store(path / str(k), "x")
        point = new_point(store)
        accepted, began = [], threading.Event()

        def capture(point=point, accepted=accepted, began=began):
            while True:
                try:
                    point.append(rows_of(7), 7)
                except RuntimeError:
                    return
                accepted.append(7)
                began.set()

        thread = threading.Thread(target=capture)
        thread.start()
        began.wait(600)
        store.close()
        thread.join(600)
        assert ts.Store(path / str(k))["layer"].state_count == sum(accepted)


def test_a_reset_that_fails_does_not_lose_what_follows(path, monkeypatch):
    store = ts.Store(path, "x", commit_seconds=None)
    point = new_point(store)
    point.append(rows_of(5), 5)
    store.commit()

    class Full(FileSystemCalls):
        def write(self, file, parts):
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Folder, "system", Full())
    with pytest.raises(OSError, match="full"):
        point.reset_states((None, 16))
    assert ts.Store(path)["layer"].state_count == 5  # what was committed is there
    assert point.state_count == 0
    monkeypatch.undo()
    point.append(rows_of(7), 7)
    point.append(rows_of(3), 3)
    store.close()
    assert ts.Store(path)["layer"].histogram() == ts.count_states(
        np.concatenate([rows_of(7), rows_of(3)]), 16
    )


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts itself by a POSIX signal")
def test_ctrl_c_at_the_end_of_close(path, monkeypatch):
    store = ts.Store(path, "x")
    new_point(store).append(rows_of(5), 5)

    def interrupted(files, release=Folder.release):
        os.kill(os.getpid(), signal.SIGINT)
        release(files)

    monkeypatch.setattr(Folder, "release", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.close()
    monkeypatch.undo()
    store.close()
    with ts.Store(path, "a") as store:  # the lock is free
        assert new_point(store).state_count == 5


def test_a_store_that_was_moved_away_is_told(path):
    store = ts.Store(path, "x")
    point = new_point(store)
    point.append(rows_of(5), 5)
    path.rename(path.with_name("moved"))
    for end in (point.flush, store.close):
        with pytest.raises(RuntimeError, match="was deleted while states were captured into it"):
            end()
    path.with_name("moved").rename(path)
    store.close()
    assert ts.Store(path)["layer"].state_count == 5


def test_commits_do_not_pile_up_on_a_slow_disk(path, monkeypatch):
    may_go_on = threading.Event()

    class Slow(FileSystemCalls):
        def write(self, file, parts):
            assert may_go_on.wait(600)
            super().write(file, parts)

    store = ts.Store(path, "x", commit_rows=1, commit_seconds=None)
    point = new_point(store)
    monkeypatch.setattr(Folder, "system", Slow())
    for _ in range(50):
        point.append(rows_of(1000), 1000)
    background = store.session.writer._background
    jobs = [*background._queue, *background._running]
    assert sum(job.exclusive for job in jobs) == 1
    may_go_on.set()
    store.close()
    assert ts.Store(path)["layer"].state_count == 50_000
