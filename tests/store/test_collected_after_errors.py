"""Stores of which no reference is left after an error are closed, as they are without one."""

import errno
import os
import threading

import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu.store.background_writer import BackgroundWriter
from tensorstate_gpu.store.folder import FileSystemCalls, Folder


class Full(FileSystemCalls):
    """A full disk."""

    def write(self, path, parts):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@pytest.fixture
def model():
    return torch.nn.Linear(6, 40)


@pytest.fixture
def disk(monkeypatch):
    """Sets what the file system does."""
    return lambda system: monkeypatch.setattr(Folder, "system", system)


def of_a_path(model, path, disk):
    with ts.capture(model, storage_path=path):
        model(torch.ones(100, 6))
        disk(Full())


def of_a_store(model, path, disk):
    with ts.Store(path, "x") as store, ts.capture(model, storage_path=store):
        model(torch.ones(100, 6))
        disk(Full())


def committed(model, path, disk):
    store = ts.Store(path, "x")
    with ts.capture(model, storage_path=store):
        model(torch.ones(100, 6))
        disk(Full())
        store.commit()


def built(model, path, disk):
    run = ts.Run(ts.build_efficiency_model(model, storage_path=path).efficiency_layers)
    model(torch.ones(100, 6))
    disk(Full())
    try:
        run.close()
    finally:
        ts.remove_state_layers(model)


@pytest.mark.parametrize("capture", [of_a_path, of_a_store, committed, built])
def test_a_store_that_failed_is_written_once_the_disk_has_room(capture, model, tmp_path, disk):
    with pytest.raises(OSError, match="No space left"):
        capture(model, tmp_path / "run", disk)
    disk(FileSystemCalls())
    with ts.Store(tmp_path / "run", "a") as store:
        assert store[0].instance_count == 100
    assert ts.Store(tmp_path / "run").verify().good


def test_a_store_is_told_of_as_long_as_the_disk_is_full(model, tmp_path, disk):
    with pytest.raises(OSError, match="No space left"):
        of_a_store(model, tmp_path / "run", disk)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            ts.Store(tmp_path / "run", "a")
    disk(FileSystemCalls())
    with ts.Store(tmp_path / "run", "a") as store:
        assert store[0].instance_count == 100


def test_an_error_of_a_writer_is_raised_in_each_thread_that_waits():
    writer, results = BackgroundWriter(1, lambda: None, None), []
    go, attempts = threading.Event(), []

    def work():
        attempts.append(go.wait(600))
        if len(attempts) <= 4:  # of threads that try again
            raise OSError("full")

    def wait():
        try:
            writer.wait()
            results.append("written")
        except OSError as error:
            results.append(str(error))

    writer.submit(work)
    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(600)
    while "written" not in results:
        wait()
    assert sum(each == "full" for each in results) <= len(attempts) - 1 == 4
    writer.cancel()
