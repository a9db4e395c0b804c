"""Stores that TensorState has written: arrays that are longer than the states in them."""

import numcodecs
import numpy as np
import pytest
import zarr

import tensorstate_gpu as ts

NEURONS = {"conv": 20, "dense": 8}
ROWS = {"conv": 70_000, "dense": 7}


@pytest.fixture(scope="module")
def states():
    rng = np.random.default_rng(0)
    return {
        name: ts.compress_states(rng.normal(size=(ROWS[name], NEURONS[name])) - 1) for name in ROWS
    }


@pytest.fixture(scope="module")
def old(states, tmp_path_factory):
    path = tmp_path_factory.mktemp("old")
    for name, rows in states.items():
        array = zarr.create_array(
            path / "tensor_states" / f"{name}.zarr",
            shape=(100_000, rows.shape[1]),
            chunks=(30_000, rows.shape[1]),
            dtype="u1",
            zarr_format=2,
            fill_value=0,
            compressors=numcodecs.Blosc(),
        )
        array[: len(rows)] = rows
    return path


@pytest.mark.parametrize("below", ["", "tensor_states"])
def test_the_same_states(old, states, tmp_path, below):
    store = ts.Store.from_tensorstate(
        old / below, tmp_path / "new", rows=ROWS, neurons=NEURONS, instances=7
    )
    assert store.names == ["conv", "dense"]
    assert not store.verify().problems
    for name, rows in states.items():
        np.testing.assert_array_equal(store[name].raw_states, rows)
        assert store[name].entropy() == ts.count_states(rows, neurons=NEURONS[name]).entropy()
        assert store[name].histogram(slice(0, 1)).total == ROWS[name] // 7
    assert store.report()["conv"].axis is None


def test_without_the_number_of_inputs(old, tmp_path):
    store = ts.Store.from_tensorstate(old, str(tmp_path / "new"), rows=ROWS, neurons=NEURONS)
    assert store["dense"].state_count == 7
    with pytest.raises(ts.errors.InputsUnknown):
        store["dense"].histogram(0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rows": {"conv": 69_000, "dense": 7}}, "rows: conv has states behind row 69,000"),
        ({"rows": 100_001}, "rows: conv has 100,000 rows, not 100,001"),
        ({"rows": {"conv": 70_000}}, "rows: nothing is said of 'dense'"),
        ({"rows": 0}, "rows must be"),
        ({"neurons": 20}, "neurons: dense has rows of 1 bytes, not of 20 neurons"),
        ({"neurons": {"conv": 17, "dense": 8}}, "bits set beyond their 17 neurons"),
        ({"instances": 6}, "70000 rows do not divide into 6 instances"),
    ],
)
def test_numbers_that_do_not_fit(old, tmp_path, wrong, message):
    given = {"rows": ROWS, "neurons": NEURONS, "instances": 7, **wrong}
    with pytest.raises(ValueError, match=message):
        ts.Store.from_tensorstate(old, tmp_path / "new", **given)
    assert not [*tmp_path.glob("new/*")]


def test_a_folder_without_states(tmp_path):
    with pytest.raises(ts.errors.NoStore, match="no states of TensorState"):
        ts.Store.from_tensorstate(tmp_path, tmp_path / "new", rows=1, neurons=1)
