"""Full and failing disks while a capture or counts are saved, and damaged parts of several stores.

store_kill.py kills the same programs.
"""

import errno
import os
import shutil
from functools import partial

import pytest

import tensorstate_gpu as ts
from tests.support.samples import sample, sweep
from tests.support.store_runs import (
    Capture,
    CountingSystem,
    check_counts,
    check_finished,
    count_in_parts,
    count_to,
    save,
    small_chunks,  # noqa: F401 a fixture
    system_as_it_was,  # noqa: F401 a fixture
)


@pytest.fixture(scope="module")
def two_stores(tmp_path_factory):
    """Two stores of rows, and two of counts, of the same layers."""
    folder = tmp_path_factory.mktemp("two")
    for keep in ("states", "counts"):
        for number in range(2):
            Capture(folder / f"{keep}-{number}", keep=keep).run()
    return folder


def operations(program, path):
    system = CountingSystem(lambda *_: None).install(path)
    program(path)
    shutil.rmtree(path)
    return system.number


def files(path):
    return [each for each in sorted(path.rglob("*")) if each.is_file()]


def failing(path, first, lasts, code):
    """Let operations fail, from one on. Deleting still works."""

    def before(number, operation, file):
        if first <= number < first + lasts and operation not in ("unlink", "rmdir"):
            raise OSError(code, os.strerror(code), str(file))

    CountingSystem(before).install(path)


def failed(program, path):
    try:
        program(path)
    except OSError:
        return True
    return False


@pytest.mark.parametrize(
    ("keep", "code", "lasts"), [("states", errno.EIO, 1), ("counts", errno.ENOSPC, 4)]
)
@sweep
def test_a_capture_is_saved_whole_or_not_at_all(every, keep, code, lasts, quick_path):
    program, told = partial(save, keep=keep), 0
    for k in sample(range(1, operations(program, quick_path) + 1), 3, every, seed=keep):
        failing(quick_path, k, lasts, code)
        if failed(program, quick_path):
            told += 1
            assert not quick_path.exists(), f"operation {k}"
            failing(quick_path, 0, 0, code)
            program(quick_path)
        check_finished(quick_path)
        assert ts.Store(quick_path).closed
        shutil.rmtree(quick_path)
    assert told


@pytest.mark.parametrize(("program", "name"), [(count_to, ""), (count_in_parts, "whole")])
@sweep
def test_counts_are_written_whole_or_not_at_all(every, program, name, two_stores, quick_path):
    program = partial(program, source=two_stores / "states-0")
    numbers = range(1, operations(program, quick_path) + 1)
    for k in sample(numbers, 3, every, seed=name):
        failing(quick_path, k, 1, errno.ENOSPC)
        assert failed(program, quick_path), f"nobody was told of operation {k}"
        assert not [*quick_path.parent.glob(".*.partial"), *quick_path.glob(".*.partial")]
        failing(quick_path, 0, 0, errno.ENOSPC)
        program(quick_path)  # again: what is there is not in its way
        check_counts(quick_path / name)
        shutil.rmtree(quick_path)


@pytest.mark.parametrize("keep", ["states", "counts"])
@sweep
def test_a_flipped_bit_in_any_file_of_several_stores_is_named(every, keep, two_stores):
    paths = [two_stores / f"{keep}-{number}" for number in range(2)]
    read_all(paths)
    for file in sample(files(paths[1]), 8, every):
        whole = file.read_bytes()
        for place in sample(range(len(whole)), 2, every and len(whole) < 500, seed=file.name):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << place % 8
            file.write_bytes(damaged)
            if file.name == "zarr.json" and file.parent != paths[1]:
                # Only other zarr clients read it: the record has all that is in it.
                problems = ts.open_stores(paths).verify().problems
                assert any(str(file) in problem for problem in problems), (file, place)
            else:
                with pytest.raises(ValueError, match=f"{keep}-1"):
                    read_all(paths)
        file.write_bytes(whole)
    read_all(paths)


def read_all(paths):
    for layer in ts.open_stores(paths).efficiency_layers:
        layer.histogram()
        layer.counts_by()
        if not layer.keeps_counts:
            layer.labels()  # also of inputs without rows
