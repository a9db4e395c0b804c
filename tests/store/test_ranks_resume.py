"""One store for each rank, of a fixed name: interrupted and resumed, they have each input once."""

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.errors import UnfinishedStore
from tests.support.points import new_point

ROWS = np.random.default_rng(0).integers(0, 256, (240, 2)).astype(np.uint8)
LABELS = np.arange(240) % 3
RANKS, BATCH = 4, 6
EACH = len(ROWS) // RANKS


class Killed(BaseException):
    """The process is gone: nothing more is committed."""


def rank_job(folder, rank, killed_after=None):
    """What a rank does when it is started, for the first time or again."""
    store = ts.Store(folder / f"run-{rank:05}.zarr", "a", commit_rows=2 * BATCH)
    point = new_point(store)
    first, end = rank * EACH, (rank + 1) * EACH
    for batch, start in enumerate(range(first + point.instance_count, end, BATCH)):
        if batch == killed_after:
            store.session.writer.life.stop()
            raise Killed
        some = slice(start, min(start + BATCH, end))
        point.append(ROWS[some], some.stop - some.start, LABELS[some])
    store.close()


@pytest.mark.parametrize("kills", [{1: [0]}, {0: [3, 2], 2: [4], 3: [1, 1, 1]}], ids=str)
def test_ranks_that_are_killed_and_started_again(kills, tmp_path):
    for rank in range(RANKS):
        for after in kills.get(rank, []):
            with pytest.raises(Killed):
                rank_job(tmp_path, rank, after)
            with pytest.raises(UnfinishedStore, match=f"run-{rank:05}.zarr"):
                ts.open_stores(tmp_path / "run-*.zarr")
        rank_job(tmp_path, rank)
    layer = ts.open_stores(tmp_path / "run-*.zarr")["layer"]
    np.testing.assert_array_equal(layer[:], ROWS)
    np.testing.assert_array_equal(layer.labels(), LABELS)
    assert layer.histogram() == ts.count_states(ROWS, 16)


def test_a_finished_rank_that_is_started_again_adds_nothing(tmp_path):
    for _ in range(2):
        rank_job(tmp_path, 0)
    assert len(ts.open_stores(tmp_path / "run-*.zarr")["layer"]) == EACH
