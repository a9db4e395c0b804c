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


@pytest.mark.parametrize("fewer", [1, 2, 3, 6])
def test_a_training_that_goes_on_with_another_number_of_ranks(fewer, tmp_path):
    """As in docs/store.md: stores of ranks that are no more forget what is trained again."""
    paths = [tmp_path / f"run-{rank:05}.zarr" for rank in range(RANKS)]
    half = EACH // 2
    inputs = {}
    for rank, path in enumerate(paths):
        store = ts.Store(path, "a")
        point = new_point(store)
        mine = ROWS[rank * EACH : (rank + 1) * EACH]
        point.append(mine[:half], half)
        store.commit()
        inputs[path] = point.instance_count  # in the checkpoint of the training
        point.append(mine[half : half + 7], 7)  # trained again after the checkpoint
        store.commit()
        store.session.writer.life.stop()  # killed

    for path in paths:
        with ts.Store(path, "a") as store:
            store.rewind(inputs[path])
    rest = np.concatenate([ROWS[k * EACH + half : (k + 1) * EACH] for k in range(RANKS)])
    for rank, mine in enumerate(np.array_split(rest, fewer)):
        with ts.Store(tmp_path / f"run-{rank:05}.zarr", "a") as store:
            new_point(store).append(mine, len(mine))
    read = ts.open_stores(str(tmp_path / "run-*.zarr"))
    assert read[0].histogram() == ts.count_states(ROWS, 16)
