"""What ends with a reset, a later change or a with block: labels, buffers, stale readers."""

import threading

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu._capturing.matching import match
from tensorstate_gpu.store.keys import state_key
from tests.support.points import new_point

ROWS = np.arange(20, dtype=np.uint8).reshape(10, 2)


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_labels_end_with_a_reset(keep):
    point = new_point(keep=keep)
    point.labels(["old"] * 10)
    point.reset_states((None, 16))
    point.append(ROWS, 10)
    with pytest.raises(ValueError, match="10 of 10 instances were captured without labels"):
        point.counts_by()


def test_labels_are_those_of_the_moment():
    point, labels = new_point(), np.zeros(10, np.int64)
    point.append(ROWS, 10, labels)
    labels[:] = 7
    assert list(point.counts_by()) == [0]


def test_rows_that_vanish_while_they_are_read_are_noticed():
    point = new_point()
    point.append(ROWS, 10)
    keeper = point.intake.accumulator._storage
    whole = keeper.chunks
    keeper.chunks = lambda: (chunk[:-1] for chunk in whole())
    with pytest.raises(RuntimeError, match="10 rows were captured, 9 counted"):
        point.counts()


def test_rows_held_from_before_a_reset_are_not_written_after_it(tmp_path):
    point = new_point(tmp_path)
    point.append(ROWS, 10)
    held = point.intake.accumulator
    point.reset_states()
    point.declare(16)
    point.append(ROWS[:3], 3)
    point.flush()
    del held
    assert ts.Store(tmp_path)["layer"].state_count == 3


def test_all_rows_are_on_disk_when_a_capture_ends(tmp_path):
    layer = torch.nn.Linear(3, 4)
    with ts.capture(layer, "Linear", storage_path=tmp_path / "run") as run:
        layer(torch.ones(9, 3))
    stored = ts.Store(tmp_path / "run")["Linear_post_states"]
    np.testing.assert_array_equal(
        np.concatenate(list(stored.chunks())), run["Linear_post_states"].raw_states
    )
    assert stored.state_count == 9


def test_names_that_zarr_keeps_for_itself_are_escaped():
    for name in ("__reserved", "_x", ".", "zarr.json"):
        assert state_key(name)[0] == "%"
    assert state_key("conv_1.zarr.json") == "conv_1.zarr.json"


def test_twenty_layers_are_listed():
    with pytest.raises(ValueError, match=r"layer19 \(int\) and 5 more"):
        match([(f"layer{k}", k) for k in range(25)], float)


READERS = {
    "state_count": lambda point: point.state_count,
    "instance_count": lambda point: point.instance_count,
    "raw_states": lambda point: len(point.raw_states),
    "chunks": lambda point: sum(map(len, point.chunks())),
    "histogram": lambda point: point.histogram().total,
    "counts": lambda point: point.counts().sum(),
    "counts of some": lambda point: point.counts(slice(0, 4)).sum(),
    "counts_by": lambda point: point.counts_by([0, 0, 0, 0])[0].total,
    "states_per_instance": lambda point: 4 * point.states_per_instance(),
    "neurons": lambda point: point.neurons // 2,
    "max_entropy": lambda point: point.max_entropy() // 2,
}


@pytest.mark.parametrize("reader", READERS)
def test_readers_wait_for_batches_under_way(reader):
    """And hold no lock meanwhile, which whoever brings the batch needs."""
    point = ts.CapturePoint("layer")

    def bring():
        point.intake._barriers.clear()
        thread = threading.Thread(
            target=point.intake.record, args=(np.zeros((4, 1), np.uint8), 8, 1, 4)
        )
        thread.start()
        thread.join(600)
        assert not thread.is_alive()

    point.intake.add_barrier(bring)
    assert READERS[reader](point) == 4
