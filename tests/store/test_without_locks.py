"""Folders of file systems that have no locks: a second writer is found, and nothing mixes."""

import contextlib
import errno
import os

import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.store import folder_lock
from tensorstate_gpu.store.commit_record import Record
from tensorstate_gpu.store.documents import KEY
from tensorstate_gpu.store.folder import FileSystemCalls, Folder
from tests.support.points import new_point, rows_of

ROWS = rows_of(600, 24)

pytestmark = pytest.mark.skipif(folder_lock.fcntl is None, reason="Windows has no such locks")


@pytest.fixture(params=["ENOSYS", "ENOLCK", "EOPNOTSUPP", "no fcntl"])
def path(request, monkeypatch, tmp_path):
    """Where a store may be; the file system answers so when it is asked for a lock."""

    def refuse(descriptor, operation):
        code = getattr(errno, request.param)
        raise OSError(code, os.strerror(code))

    if request.param == "no fcntl":  # as on Windows, where nothing is asked, and nothing said
        monkeypatch.setattr(folder_lock, "fcntl", None)
    else:
        monkeypatch.setattr(folder_lock.fcntl, "flock", refuse)
    return tmp_path / "run.zarr"


def opened(path, mode):
    if folder_lock.fcntl is None:
        return ts.Store(path, mode, commit_seconds=None)
    with pytest.warns(UserWarning, match=r"has no locks .*only one writer at a time"):
        return ts.Store(path, mode, commit_seconds=None)


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_the_writer_that_came_first_ends(path, keep):
    first = opened(path, "x")
    point = new_point(first, neurons=24, keep=keep)
    point.append(ROWS[:300], 300)
    first.commit()
    point.append(ROWS[:100], 100)
    second = opened(path, "a")
    with pytest.raises(ts.errors.StoreInUse, match=r"another writer has opened .*run"):
        first.commit()
    other = new_point(second, neurons=24, keep=keep)
    other.append(ROWS[300:], 300)
    second.close()
    with pytest.raises(ts.errors.StoreInUse):
        first.close()
    first.session.writer.life.stop()  # else the end of the tests tells it once more
    read = ts.Store(path)
    assert read.closed
    assert read["layer"].histogram() == ts.count_states(ROWS, 24)
    assert read.verify().orphans == []


def test_opening_that_fails_after_another_writer_has_come_leaves_the_record_to_it(
    path, monkeypatch
):
    to_bytes, writers = Record.to_bytes, []

    def fails(record):
        if writers:
            return to_bytes(record)
        writers.append(None)
        writers[0] = opened(path, "x")
        raise MemoryError

    monkeypatch.setattr(Record, "to_bytes", fails)
    with pytest.raises(MemoryError):
        opened(path, "x")
    new_point(writers[0], neurons=24).append(ROWS, 600)
    writers[0].close()
    assert ts.Store(path)["layer"].state_count == 600


def test_opening_that_cannot_write_its_record_leaves_that_of_another_writer(path, monkeypatch):
    write, writers = Folder.write, []

    def fails(files, key, *parts):
        if writers:
            return write(files, key, *parts)
        writers.append(None)
        writers[0] = opened(path, "x")
        raise MemoryError

    monkeypatch.setattr(Folder, "write", fails)
    with pytest.raises(MemoryError):
        opened(path, "x")
    new_point(writers[0], neurons=24).append(ROWS, 600)
    writers[0].close()
    assert ts.Store(path)["layer"].state_count == 600


def test_a_record_that_was_replaced_although_an_error_says_no_is_the_writers_own(path, monkeypatch):
    """As on NFS, whose server has done what it was asked for again when its answer was lost."""
    store = opened(path, "x")
    point = new_point(store, neurons=24)
    replace, failed = FileSystemCalls.replace, []

    def answer_was_lost(self, source, target):
        replace(self, source, target)
        if target == path / "zarr.json" and not failed:
            failed.append(target)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target))

    monkeypatch.setattr(FileSystemCalls, "replace", answer_was_lost)
    point.append(ROWS[:300], 300)
    with contextlib.suppress(FileNotFoundError):  # the writer may have tried again by itself
        store.commit()
    point.append(ROWS[300:], 300)
    store.close()
    assert len(failed) == 1
    assert ts.Store(path)["layer"].histogram() == ts.count_states(ROWS, 24)


def test_the_next_record_may_fail_before_it_is_in_its_place(path, monkeypatch):
    """After one that is there although an error said no."""
    path.mkdir()
    folder = Folder(path)
    has_calls = folder_lock.fcntl is not None
    with pytest.warns(UserWarning, match="no locks") if has_calls else contextlib.nullcontext():
        folder.claim()
    folder.write(KEY, b"first")
    replace = FileSystemCalls.replace

    def fail(self, source, target):
        if not failed:
            replace(self, source, target)
        failed.append(target)
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(target))

    failed = []
    with monkeypatch.context() as broken:
        broken.setattr(FileSystemCalls, "replace", fail)
        for record in (b"second", b"third"):
            with pytest.raises(OSError, match="Input/output error"):
                folder.write(KEY, record)
    assert folder.read(KEY) == b"second"
    folder.write(KEY, b"fourth")
    assert folder.read(KEY) == b"fourth"
    folder.release()


def test_a_writer_whose_record_was_deleted_ends(path):
    store = opened(path, "x")
    new_point(store, neurons=24).append(ROWS, 600)
    (path / "zarr.json").unlink()
    with pytest.raises(ts.errors.StoreInUse, match=r"another writer has opened .* or deleted it"):
        store.close()
    store.session.writer.life.stop()


def test_one_writer_after_the_other(path):
    for start in (0, 300):
        with opened(path, "a") as store:
            point = new_point(store, neurons=24)
            point.append(ROWS[start : start + 300], 300)
            store.commit()
            store.rewind(start + 300)
    assert ts.Store(path)["layer"].histogram() == ts.count_states(ROWS, 24)


def test_another_error_of_a_lock_names_the_folder(monkeypatch, tmp_path):
    def fail(descriptor, operation):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(folder_lock.fcntl, "flock", fail)
    open_before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    with pytest.raises(OSError, match=r"Input/output error: .*run\.zarr"):
        ts.Store(tmp_path / "run.zarr", "x")
    if open_before is not None:
        assert len(os.listdir("/proc/self/fd")) == open_before
