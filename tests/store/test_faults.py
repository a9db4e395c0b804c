"""A disk that is full or broken at each operation, and bits that flip in each file."""

import errno
import shutil
from contextlib import contextmanager, nullcontext
from functools import partial

import numpy as np
import pytest

import tensorstate_gpu as ts
from tests.support.samples import sample, sweep
from tests.support.store_runs import (
    Capture,
    CountingSystem,
    check_finished,
    number_of_operations,
    run_while_operations_fail,
    small_chunks,  # noqa: F401 a fixture
    system_as_it_was,  # noqa: F401 a fixture
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "lasts", "durability"), [(errno.EIO, 1, "power"), (errno.ENOSPC, 4, "process")]
)
@sweep
def test_a_failing_operation_is_told_and_the_capture_goes_on(
    every, code, lasts, durability, quick_path
):
    path = quick_path
    numbers = range(1, number_of_operations(path, durability=durability) + 1)
    chosen = sample(numbers, 16, every, seed=durability)
    for k in chosen:
        run_while_operations_fail(
            path, range(k, k + lasts), code, ("unlink",), durability=durability
        )
        shutil.rmtree(path)
    print(f"{len(chosen)} operations failed in turn")


@pytest.mark.parametrize("named", [False, True])  # as the system does it where a file is opened
def test_an_error_says_what_came_and_that_nothing_committed_is_lost(named, tmp_path):
    path = tmp_path / "run.zarr"
    store = ts.Store(path, "x")
    point = ts.CapturePoint("conv", store)

    def full(number, operation, file):
        if operation == "write":
            raise OSError(errno.ENOSPC, "No space left on device", *([str(file)] if named else []))

    CountingSystem(full).install(path)
    point.declare(8)
    point.append(np.array([[255]], np.uint8), 1)
    with pytest.raises(OSError, match=r"left on device: '.*/conv/[^']*(?<!partial)'") as raised:
        store.commit()
    assert "What was committed is whole" in raised.value.__notes__[0]
    CountingSystem(lambda *_: None).install(path)
    store.close()
    assert ts.Store(path)["conv"].state_count == 1


def read_all(path):
    store = ts.Store(path)
    for layer in store.efficiency_layers:
        layer[:]
        layer.labels()
        layer.snapshot()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "run.zarr"
    Capture(path).run()
    check_finished(path)
    return path


def files(path):
    return [file for file in sorted(path.rglob("*")) if file.is_file()]


@sweep
def test_a_flipped_bit_in_any_file_is_named(every, finished):
    flips = 0
    for file in files(finished):
        if file.parent.name in ("labels", "_ledger"):
            continue  # a group without content of its own: Store.verify() looks at it
        whole = file.read_bytes()
        places = range(len(file.name), len(whole), 7)
        for place in sample(places, 5, every, seed=str(file.relative_to(finished))):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << place % 8
            file.write_bytes(damaged)
            with pytest.raises(ValueError, match=r"run\.zarr") as raised:
                read_all(finished)
            named = str(file) in str(raised.value)
            format_changed = file.parent == finished and "has format" in str(raised.value)
            no_group = file.parent == finished and "no captured states" in str(raised.value)
            assert named or format_changed or no_group, (file, place, raised.value)
            flips += 1
        file.write_bytes(whole)
    read_all(finished)
    print(f"{flips} flipped bits")


@contextmanager
def folder_at(path):
    path.mkdir()
    yield
    path.rmdir()


def test_a_missing_file_is_named(finished):
    for file in files(finished):
        if file.parent.name in ("labels", "_ledger") or file.parent == finished:
            continue
        whole = file.read_bytes()
        file.unlink()
        for in_its_place in (nullcontext, partial(folder_at, file)):
            with (
                in_its_place(),
                pytest.raises(ValueError, match="is missing, with captured states in") as raised,
            ):
                read_all(finished)
            assert str(file) in str(raised.value)
        file.write_bytes(whole)
    read_all(finished)


def test_a_chunk_of_another_store_is_not_taken_for_ours(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    chunk, other = (tmp_path / f"copy/conv/c/{i}/0" for i in (0, 1))
    shutil.copy(other, chunk)  # whole, but not what was committed
    with pytest.raises(ValueError, match=r"conv/c/0/0 is damaged: it is not what was committed"):
        read_all(tmp_path / "copy")
