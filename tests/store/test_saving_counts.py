"""Run.save() of layers that keep counts, while more is captured."""

import threading

import numpy as np
import pytest

import tensorstate_gpu as ts
from tests.support.points import new_point, rows_of

ROWS = rows_of(3000, neurons=12)
LABELS = np.arange(3000) % 5


def append(point, start, stop):
    point.append(ROWS[start:stop], stop - start, LABELS[start:stop])


@pytest.fixture(params=[False, True], ids=["in memory", "in a store"])
def run(request, tmp_path):
    store = ts.Store(tmp_path / "captured", "x", commit_seconds=None) if request.param else None
    run = ts.Run([new_point(store, name, neurons=12, keep="counts") for name in "ab"])
    yield run
    run.close()
    if store is not None:
        store.close()


def test_what_is_captured_while_it_is_saved_is_left_out(run, tmp_path):
    for point in run.values():
        append(point, 0, 1000)
    expected, told = run["a"].counts_by(), []

    def progress(done, total):
        told.append((done, total))
        for point in run.values():
            append(point, 2000, 3000)

    run.save(tmp_path / "saved", progress=progress)
    saved = ts.Store(tmp_path / "saved")
    assert told == [(1000, 2000), (2000, 2000)]
    assert [saved[name].counts_by() for name in "ab"] == [expected, expected]
    assert saved["b"].instance_count == 1000
    assert run["b"].state_count == 3000


def test_one_thread_saves_while_another_captures(run, tmp_path):
    append(run["a"], 0, 1000)
    append(run["b"], 0, 1000)
    done = threading.Event()

    def capture():
        for k in range(200):
            for point in run.values():
                append(point, k, k + 1000)
        done.set()

    thread = threading.Thread(target=capture)
    thread.start()
    saves = 0
    while saves < 2 or not done.is_set():
        run.save(path := tmp_path / f"{saves}")
        saves += 1
        layer = ts.Store(path)["a"]
        assert layer.histogram().total == layer.instance_count
        assert layer.instance_count % 1000 == 0
    thread.join()
    for point in run.values():
        assert point.histogram().total == point.state_count == 201_000
