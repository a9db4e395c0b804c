"""Progress of commits that write counts: of several layers, of merges, after failures."""

import errno
import os
from itertools import pairwise

import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.store.folder import FileSystemCalls
from tests.support.points import new_point, rows_of

ROWS = rows_of(2000, neurons=24)


def appended(store, *names):
    points = [new_point(store, name, neurons=24, keep="counts") for name in names]
    for point in points:
        point.append(ROWS[:1000], 1000)
    return points


def test_a_commit_tells_what_it_has_written_of_all_layers_and_merged(tmp_path):
    seen = []
    with ts.Store(
        tmp_path / "run.zarr", "x", commit_seconds=None, progress=lambda *told: seen.append(told)
    ) as store:
        points = appended(store, "a", "b")
        store.commit()
        assert seen[-1] == (2000, 2000)
        assert all(one <= two for one, two in pairwise(done for done, _ in seen))
        seen.clear()
        store.commit()
        assert not seen  # there was nothing to write
        points[0].append(ROWS[1000:], 1000)
    assert seen[0] == (0, 2000)  # close() merges the run of the first commit with the new one
    assert seen[-1] == (2000, 2000)


def test_what_is_written_again_after_an_error_counts_once(tmp_path, monkeypatch):
    seen = []
    store = ts.Store(
        tmp_path / "run.zarr", "x", commit_seconds=None, progress=lambda *told: seen.append(told)
    )
    appended(store, "a")

    def full(system, path, parts):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(FileSystemCalls, "write", full)
        with pytest.raises(OSError, match="No space left"):
            store.commit()
    seen.clear()
    store.close()
    assert seen[0] == (0, 1000)
    assert seen[-1] == (1000, 1000)


@pytest.mark.parametrize("failing", [(0, 1000), (1000, 1000)])
def test_an_error_of_the_callback_fails_the_commit_and_loses_nothing(failing, tmp_path):
    calls, is_broken = [], True

    def fails(*told):  # each time: commit() may try twice
        calls.append(told)
        if is_broken and told == failing:
            raise RuntimeError("no bar")

    path = tmp_path / "run.zarr"
    store = ts.Store(path, "x", commit_seconds=None, progress=fails)
    appended(store, "a")
    with pytest.raises(RuntimeError, match="no bar"):
        store.commit()
    assert len(ts.Store(path)) == 0
    is_broken = False
    calls.clear()
    store.close()
    assert calls == [(0, 1000), (1000, 1000)]
    assert ts.Store(path)["a"].histogram() == ts.count_states(ROWS[:1000], 24)


def test_progress_that_is_no_function(tmp_path):
    with pytest.raises(TypeError, match="progress must be callable, got bool"):
        ts.Store(tmp_path / "run.zarr", "x", progress=True)
    assert not (tmp_path / "run.zarr").exists()
