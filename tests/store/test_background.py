"""Several threads that write one store: in any order, but for commits; nothing is left behind."""

import random
import threading
import time

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._layers.chunked_buffer import CHUNK_BYTES
from tensorstate_gpu._layers.instance_notes import NOTHING
from tensorstate_gpu.store.background_writer import MAX_QUEUED_BYTES, BackgroundWriter
from tensorstate_gpu.store.buffer_pool import BufferPool
from tensorstate_gpu.store.folder import FileSystemCalls, Folder
from tests.support.points import new_point


@pytest.fixture
def writer():
    writer = BackgroundWriter(4, lambda: None, None)
    yield writer
    writer.cancel()


def test_as_many_jobs_at_once_as_there_are_threads(writer):
    meeting = threading.Barrier(4)
    for _ in range(4):
        writer.submit(lambda: meeting.wait(600))
    writer.wait()


def test_a_job_that_is_alone(writer):
    order, running = [], set()

    def job(number, alone):
        def work():
            assert not (alone and running)
            running.add(number)
            time.sleep(random.random() / 1000)
            running.remove(number)
            order.append(number)

        return work

    alone = {number for number in range(500) if random.Random(number).random() < 0.2}
    for number in range(500):
        writer.submit(job(number, number in alone), exclusive=number in alone)
    writer.wait()
    assert len(order) == 500
    for place, number in enumerate(order):
        if number in alone:
            assert (place, max(order[: place + 1])) == (number, number)


def test_a_job_that_began_before_and_fails_is_tried_again(writer):
    """A full disk has room again, and is asked for it at once: what was being written failed."""
    begun, go, attempts = threading.Event(), threading.Event(), []

    def work():
        attempts.append(len(attempts))
        if len(attempts) == 1:
            begun.set()
            assert go.wait(600)
            raise OSError("No space left on device")

    writer.submit(work)
    assert begun.wait(600)
    threading.Timer(0.1, go.set).start()
    writer.wait()
    assert attempts == [0, 1]


def failed(writer):
    try:
        writer.wait()
    except OSError:
        return True
    return False


def test_jobs_that_fail_are_told_and_tried_again(writer):
    done, chance = [], random.Random(0)

    def job(number):
        def work():
            if chance.random() < 0.3:
                raise OSError(f"job {number}")
            done.append(number)

        return work

    told = 0
    for start in range(0, 400, 20):
        for number in range(start, start + 20):
            writer.submit(job(number), 10, exclusive=number % 7 == 0)
        while failed(writer):
            told += 1
        assert sorted(done) == list(range(start + 20))  # each of them once
    assert told > 20
    assert writer._bytes == 0


def test_no_job_begins_after_one_that_failed(writer):
    failed, done = threading.Event(), []

    def fail():
        failed.set()
        raise OSError("first")

    def slow():
        assert failed.wait(600)
        time.sleep(0.05)
        done.append("slow")

    writer.submit(slow)
    writer.submit(fail)
    assert failed.wait(600)
    time.sleep(0.01)
    writer.submit(lambda: done.append("later"))
    for _ in range(3):  # told once the other one has ended; tried again by the next
        with pytest.raises(OSError, match="first"):
            writer.wait()
        assert done[0] == "slow"


ROWS = np.random.default_rng(0).integers(0, 256, (100, 2)).astype(np.uint8)


@pytest.fixture
def fsyncs_meet(monkeypatch):
    """A disk that finishes the fsyncs of chunks four at a time."""
    meeting = threading.Barrier(4, timeout=1200)

    class Meeting(FileSystemCalls):
        def fsync(self, path):
            if path.is_file() and "json" not in path.name:
                meeting.wait()

    monkeypatch.setattr(Folder, "system", Meeting())


@pytest.mark.usefixtures("small_chunks", "fsyncs_meet")
def test_chunks_are_fsynced_together(tmp_path):
    with ts.Store(tmp_path / "run", "x", durability="power", commit_seconds=None) as store:
        new_point(store).append(ROWS[:80], 80)  # eight chunks, no tail
    np.testing.assert_array_equal(ts.Store(tmp_path / "run")["layer"][:], ROWS[:80])


@pytest.mark.usefixtures("fsyncs_meet")
def test_the_tails_of_a_commit_are_fsynced_together(tmp_path):
    with ts.Store(tmp_path / "run", "x", durability="power", commit_seconds=None) as store:
        for name in "abcd":
            new_point(store, name).append(ROWS, 100)
    for layer in ts.Store(tmp_path / "run").efficiency_layers:
        np.testing.assert_array_equal(layer[:], ROWS)


@pytest.mark.usefixtures("small_chunks")
def test_what_arrives_late_is_written_before_the_last_commit(tmp_path):
    store = ts.Store(tmp_path / "run", "x", commit_seconds=None)
    point = new_point(store)
    point.append(ROWS[:5], 5)
    layer = store.session.writer._layers["layer"]
    late = [ROWS[5:]]  # as batches on their way from a device

    class RowSource:
        def drain(self):
            while late:
                layer.add(late.pop(), ((95, 1),), NOTHING)

    layer.drain_from(RowSource())
    store.session.writer.life.close_in_background()
    layer = ts.Store(tmp_path / "run")["layer"]
    np.testing.assert_array_equal(layer[:], ROWS)
    assert ts.Store(tmp_path / "run").verify().good


def test_a_finalizer_in_a_writers_thread_does_not_wait_for_itself(tmp_path):
    store = ts.Store(tmp_path / "run", "x", commit_seconds=None)
    new_point(store).append(ROWS, 100)
    life, closed = store.session.writer.life, threading.Event()

    def close_there():
        life.close_in_background()  # as when the Store is collected, and then who closes it
        life.close()
        closed.set()

    life._background.submit(close_there)
    assert closed.wait(600)
    np.testing.assert_array_equal(ts.Store(tmp_path / "run")["layer"][:], ROWS)


def test_a_store_that_is_collected_while_it_closes_ends_once(tmp_path, monkeypatch):
    store = ts.Store(tmp_path / "run", "x", commit_seconds=None)
    new_point(store).append(ROWS, 100)
    life, releases = store.session.writer.life, []
    drain_all, release = life._writer.drain_all, life.files.release

    def collected_while_draining():
        life.close_in_background()
        drain_all()

    monkeypatch.setattr(life._writer, "drain_all", collected_while_draining)
    monkeypatch.setattr(life.files, "release", lambda: releases.append(release()))
    life.close(at_exit=True)
    for thread in life._background._threads:
        thread.join(600)
    assert len(releases) == 1
    np.testing.assert_array_equal(ts.Store(tmp_path / "run")["layer"][:], ROWS)


@pytest.mark.usefixtures("small_chunks")
def test_a_save_that_is_interrupted_leaves_nothing_that_is_written_later(tmp_path, monkeypatch):
    point = ts.CapturePoint("layer")
    point.declare(16)
    point.append(ROWS, 100)

    looked_at = threading.Event()

    class Slow(FileSystemCalls):
        def write(self, path, parts):
            if threading.current_thread() is not threading.main_thread():
                assert looked_at.wait(600)
            time.sleep(0.02)
            super().write(path, parts)

    def interrupted(store):
        background = store.session.writer._background
        while not background._running:
            time.sleep(0.001)
        assert background._queue
        looked_at.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(Folder, "system", Slow())
    monkeypatch.setattr(ts.Store, "close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ts.Run([point]).save(tmp_path / "run")
    time.sleep(0.2)
    assert not list((tmp_path / "run").rglob("*"))
    monkeypatch.undo()
    ts.Run([point]).save(tmp_path / "run")
    assert ts.Store(tmp_path / "run")["layer"].state_count == 100


def test_memory_of_chunks_is_used_again():
    pool = BufferPool(CHUNK_BYTES)
    rows = pool.allocate((3, 5), np.dtype(np.uint8))
    numbers = pool.allocate((7,), np.dtype(np.int64))
    long = pool.allocate((1, CHUNK_BYTES + 1), np.dtype(np.uint8))
    assert not np.shares_memory(rows, numbers)
    pool.release(rows)
    again = pool.allocate((4,), np.dtype(np.int64))
    assert np.shares_memory(rows, again)
    assert not np.shares_memory(pool.allocate((3, 5), np.dtype(np.uint8)), again)
    pool.release(long)
    assert np.shares_memory(pool.allocate((3, 5), np.dtype(np.uint8)), long)
    pool.release(np.zeros((3, 5), np.uint8))  # not ours
    for _ in range(100):
        pool.release(BufferPool(CHUNK_BYTES).allocate((3, 5), np.dtype(np.uint8)))
    assert len(pool._free) == MAX_QUEUED_BYTES // CHUNK_BYTES


def test_folders_come_and_go_while_others_write(tmp_path):
    folder = Folder(tmp_path)
    problems = []

    def write_and_delete(name):
        try:
            for _ in range(500):
                folder.write(f"labels/{name}/c/0", b"content")
                folder.delete(f"labels/{name}/c/0")
        except OSError as error:
            problems.append(error)

    threads = [threading.Thread(target=write_and_delete, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert not list(tmp_path.iterdir())
