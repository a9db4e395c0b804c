"""Threads that capture while others write, on disks that fail: what commit() says is kept."""

import errno
import os
import random
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.store.folder import FileSystemCalls, Folder
from tests.support.points import new_point
from tests.support.waiting import wait_until

FULL = OSError(errno.ENOSPC, "full")


def rows_of(count, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, width)).astype(np.uint8)


def test_layers_with_chunks_of_several_sizes_share_memory(tmp_path):
    store = ts.Store(tmp_path / "run", "x", commit_seconds=None)
    conv, dense = new_point(store, "conv", 64), new_point(store, "dense", 16)
    rows, labels = rows_of(30_000, 8), np.arange(1000)
    for batch in range(60):
        if batch == 20:
            store.commit()  # conv has filled chunks, dense has not: its chunks are smaller
        conv.append(rows, 1000)
        dense.append(rows[:1000, :2], 1000, labels)
    store.close()
    store = ts.Store(tmp_path / "run")
    np.testing.assert_array_equal(store["conv"][:], np.tile(rows, (60, 1)))
    np.testing.assert_array_equal(store["dense"][:], np.tile(rows[:1000, :2], (60, 1)))
    np.testing.assert_array_equal(store["dense"].labels(), np.tile(labels, 60))


def test_string_labels_that_fill_chunks_of_the_real_size(tmp_path):
    rows, labels = rows_of(100_000, 2), ["a", "größer"] * 50_000
    with ts.Store(tmp_path / "run", "x", commit_seconds=None) as store:
        point = new_point(store)
        for _ in range(7):  # a chunk has 262,144 or 524,288, as NumPy keeps strings
            point.append(rows, 100_000, labels)
    layer = ts.Store(tmp_path / "run")["layer"]
    np.testing.assert_array_equal(layer.labels(), labels * 7)
    np.testing.assert_array_equal(layer[600_000:], rows)


@pytest.mark.usefixtures("small_chunks")
def test_a_failure_that_another_thread_was_told_is_told_by_close(tmp_path, monkeypatch):
    fails, goes_on = threading.Event(), threading.Event()

    class Disk(FileSystemCalls):
        def write(self, path, parts):
            if "/c/0/" in path.as_posix():
                assert goes_on.wait(600)
            if "/c/1/" in path.as_posix():
                fails.set()
                raise FULL
            super().write(path, parts)

    monkeypatch.setattr(Folder, "system", Disk())
    store = ts.Store(tmp_path / "run", "x", commit_seconds=None)
    point = new_point(store)
    rows, ends = rows_of(30, 2), []

    def close():
        try:
            store.close()
            ends.append(None)
        except OSError as error:
            ends.append(error)

    point.append(rows[:20], 20)  # two chunks
    closing = threading.Thread(target=close)
    closing.start()
    assert fails.wait(600)
    wait_until(lambda: store.session.writer._background._unraised_error)
    with pytest.raises(OSError, match="full"):
        point.append(rows[20:], 10)
    goes_on.set()
    closing.join(600)
    assert ends == [FULL]
    monkeypatch.undo()
    store.close()
    np.testing.assert_array_equal(ts.Store(tmp_path / "run")["layer"][:], rows[:20])


@pytest.mark.skipif(sys.platform == "win32", reason="fork is POSIX")
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_fork_while_a_chunk_is_written(tmp_path, monkeypatch):
    writes, goes_on = threading.Event(), threading.Event()

    class Disk(FileSystemCalls):
        def write(self, path, parts):
            if "/c/" in path.as_posix():
                writes.set()
                assert goes_on.wait(600)
            super().write(path, parts)

    monkeypatch.setattr(Folder, "system", Disk())
    point = new_point(tmp_path / "run")
    point.append(rows_of(20, 2), 20)
    assert writes.wait(600)
    child = os.fork()
    if not child:
        try:
            new_point(tmp_path / "run", "other")
        except ValueError:  # it is the parent's
            os._exit(3)
        os._exit(4)
    goes_on.set()
    deadline = time.monotonic() + 600
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(ended[1]) == 3
    point.flush()
    assert ts.Store(tmp_path / "run")["layer"].state_count == 20


LATE = """
import sys, threading
import numpy as np
import tensorstate_gpu as ts
import tensorstate_gpu.store

def train():
    threading.main_thread().join()
    with ts.Store(sys.argv[1], "x", durability="power") as store:
        for name in "ab":
            point = ts.CapturePoint(name, store)
            point.declare(16)
            point.append(np.zeros((20, 2), np.uint8), 20)

threading.Thread(target=train).start()
"""


def test_a_thread_that_outlives_the_main_thread(tmp_path):
    command = [sys.executable, "-c", LATE, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert (done.returncode, done.stderr) == (0, "")
    store = ts.Store(tmp_path / "run")
    assert [store[name].state_count for name in store] == [20, 20]


class Unreliable(FileSystemCalls):
    """Slow by chance, and full for one operation in a hundred."""

    def __init__(self):
        self.chance = random.Random(0)
        self.reliable = False

    def _luck(self):
        if self.reliable:
            return
        luck = self.chance.random()
        if luck < 0.2:
            time.sleep(luck / 100)
        if luck > 0.99:
            raise FULL

    def write(self, path, parts):
        self._luck()
        super().write(path, parts)

    def fsync(self, path):
        self._luck()

    def replace(self, source, target):
        super().replace(source, target)
        self._luck()

    def mkdir(self, path):
        self._luck()
        super().mkdir(path)


def capture_until(stop, point, seed, kept):
    batches, chance = np.random.default_rng(seed), random.Random(seed)
    while not stop.is_set():
        count = chance.randrange(40)
        rows, labels = batches.integers(0, 256, (count, 2)).astype(np.uint8), batches.integers(9)
        try:
            point.append(rows, count, np.full(count, labels))
            kept.append((rows, np.full(count, labels)))
        except OSError:
            pass  # told; this batch is not kept


def until_it_works(work):
    while True:
        try:
            return work()
        except OSError:
            pass


@pytest.mark.parametrize("durability", ["process", "power"])
def test_threads_capture_on_an_unreliable_disk(durability, quick_path, monkeypatch):
    disk = Unreliable()
    disk.reliable = True
    monkeypatch.setattr(Folder, "system", disk)
    monkeypatch.setattr("tensorstate_gpu.store.background_writer.MAX_QUEUED_BYTES", 4000)
    store = ts.Store(quick_path, "x", durability=durability, commit_rows=500, chunk_bytes=400)
    points = {name: new_point(store, name) for name in "abcd"}
    disk.reliable = False
    stop, kept = threading.Event(), {name: [] for name in points}
    threads = [
        threading.Thread(target=capture_until, args=(stop, points[name], seed, kept[name]))
        for seed, name in enumerate(points)
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 2
    while time.monotonic() < end:
        there = {name: point.state_count for name, point in points.items()}
        until_it_works(partial(store.commit))
        committed = store.record.layers
        assert all(not there[name] or committed[name].states.rows >= there[name] for name in there)
    stop.set()
    for thread in threads:
        thread.join()
    until_it_works(store.close)
    disk.reliable = True
    store = ts.Store(quick_path)
    for name, batches in kept.items():
        rows, labels = map(np.concatenate, zip(*batches, strict=True))
        np.testing.assert_array_equal(store[name][:], rows)
        np.testing.assert_array_equal(store[name].labels(), labels)
    verified = store.verify()
    assert (verified.problems, verified.orphans) == ([], [])
