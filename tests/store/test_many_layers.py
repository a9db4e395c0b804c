"""The work that a store of many layers takes, counted: thousands of layers multiply it."""

import asyncio

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._process import memory_limit

LAYERS = [f"layer_{number}" for number in range(30)]
ROWS = np.arange(16, dtype=np.uint8).reshape(8, 2)


@pytest.fixture
def of_zarr(monkeypatch):
    """A list of the tasks that are handed to the thread in which zarr works."""
    handed, hand = [], asyncio.run_coroutine_threadsafe

    def hand_over(task, loop):
        handed.append(task)
        return hand(task, loop)

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", hand_over)
    return handed


@pytest.fixture
def limits_read(monkeypatch):
    """A list of the times at which the limits of control groups were read; time stands still."""
    times, read = [], memory_limit._read_control_groups
    monkeypatch.setattr(memory_limit, "_last_found", None)
    monkeypatch.setattr(memory_limit, "monotonic", lambda: 1.0)
    monkeypatch.setattr(memory_limit, "_read_control_groups", lambda: times.append(1.0) or read())
    return times


def captured(path, passes=2):
    points = []
    with ts.Store(path, "x", commit_seconds=None) as store:
        for name in LAYERS:
            point = ts.CapturePoint(name, store)
            point.declare(16)
            points.append(point)
        for _ in range(passes):
            for point in points:
                point.append(ROWS, 8)
            store.commit()


def test_layers_do_not_wait_for_the_thread_of_zarr(tmp_path, of_zarr):
    captured(tmp_path / "warm")  # zarr starts its threads, and makes the document of this shape
    of_zarr.clear()
    captured(tmp_path / "run")
    assert ts.Store(tmp_path / "run").report().layers[-1].states == 16
    assert not of_zarr


def test_a_report_asks_once_how_much_memory_there_is(tmp_path, limits_read):
    captured(tmp_path / "run")
    limits_read.clear()
    memory_limit._last_found = None
    ts.Store(tmp_path / "run").report()
    assert len(limits_read) == 1
