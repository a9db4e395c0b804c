"""Whether a store says that its run has ended properly."""

import gc
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tensorstate_gpu as ts
from tests.support.closed_store import ROWS
from tests.support.points import new_point

FORMATS = Path(__file__).parent / "formats"


def test_a_store_is_open_until_it_is_closed(tmp_path):
    path = tmp_path / "run.zarr"
    for _ in range(2):
        store = ts.Store(path, "a")
        assert not ts.Store(path).closed
        new_point(store).append(ROWS, 35)
        store.commit()
        assert ts.Store(path).closed is False
        commits = store.record.commits
        store.close()
        assert ts.Store(path).closed is True
        assert ts.Store(path).record.commits == commits  # the end alone is no commit of rows
    assert ts.Store(path)["layer"].state_count == 70


def test_an_exception_is_no_proper_end(tmp_path):
    def capture():
        with ts.Store(tmp_path, "x") as store:
            new_point(store).append(ROWS, 35)
            raise KeyError("mine")

    with pytest.raises(KeyError):
        capture()
    assert (ts.Store(tmp_path).closed, len(ts.Store(tmp_path)["layer"])) == (False, 35)


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("keep", ["states", "counts"])
def test_a_writer_that_adds_nothing_leaves_a_store_closed(keep, adds, tmp_path):
    with ts.Store(tmp_path, "x") as store:
        new_point(store, keep=keep).append(ROWS, 35)

    def go_on():
        with ts.Store(tmp_path, "a") as store:
            assert ts.Store(tmp_path).closed is False
            point = new_point(store, keep=keep)
            if adds:
                point.append(ROWS, 35)
            store.commit()
            assert ts.Store(tmp_path).closed is False
            raise KeyError("mine")

    with pytest.raises(KeyError):
        go_on()
    store = ts.Store(tmp_path)
    assert (store.closed, store["layer"].state_count) == (not adds, 70 if adds else 35)
    with (
        pytest.raises(ValueError, match="was captured with keep="),
        ts.Store(tmp_path, "a") as store,
    ):
        new_point(store, keep="counts" if keep == "states" else "states")
    assert ts.Store(tmp_path).closed is not adds


@pytest.mark.parametrize("fails", [False, True])
def test_the_store_of_a_path(fails, tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4))

    def capture():
        with ts.capture(model, "Linear", storage_path=tmp_path / "run.zarr"):
            model(torch.ones(5, 3))
            assert not fails

    if fails:
        with pytest.raises(AssertionError):
            capture()
    else:
        capture()
    store = ts.Store(tmp_path / "run.zarr")
    assert (store.closed, len(store["0"])) == (not fails, 5)


def test_a_store_that_is_only_forgotten(tmp_path):
    new_point(ts.Store(tmp_path, "x")).append(ROWS, 35)
    gc.collect()
    store = ts.Store(tmp_path)
    assert (store.closed, len(store["layer"])) == (False, 35)


PROGRAM = """
import os, sys, numpy as np, tensorstate_gpu as ts
store = ts.Store(sys.argv[1], "x", commit_seconds=None)
point = ts.CapturePoint("layer", store)
point.declare(8, 1)
point.append(np.arange(9, dtype=np.uint8)[:, None], 9)
store.commit()
if sys.argv[2] == "killed":
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("end", ["killed", "over"])
def test_a_program_that_ends_without_close(end, tmp_path):
    done = subprocess.run([sys.executable, "-c", PROGRAM, tmp_path / "run.zarr", end], timeout=300)
    assert done.returncode == (-signal.SIGKILL if end == "killed" else 0)
    store = ts.Store(tmp_path / "run.zarr")
    assert (store.closed, len(store["layer"])) == (False, 9)


def test_saved_runs_are_closed(tmp_path):
    point = ts.CapturePoint("layer")
    point.declare(16)
    point.append(ROWS, 35)
    ts.Run([point]).save(tmp_path / "run.zarr")
    assert ts.Store(tmp_path / "run.zarr").closed


@pytest.mark.parametrize("old", ["format_2", "format_3"])
def test_stores_from_before_do_not_say(old, tmp_path, did):
    path = shutil.copytree(FORMATS / old / "without_labels", tmp_path / "run.zarr")
    store = ts.Store(path)
    assert (store.closed, store.record.run) == (None, None)
    assert "ended      unknown" in did("info", path)[1]
    ts.Store(path, "a").close()
    assert ts.Store(path).closed
    assert "ended      properly" in did("info", path)[1]


def test_copies_are_of_one_run(tmp_path):
    for name in ("one", "other"):
        ts.Store(tmp_path / name, "x").close()
    copy = shutil.copytree(tmp_path / "one", tmp_path / "copy")
    runs = {name: ts.Store(tmp_path / name).record.run for name in ("one", "other", "copy")}
    with ts.Store(copy, "a") as store:
        assert store.record.run == runs["copy"] == runs["one"] != runs["other"]
