"""Layers are found in the same ways in a run, a store, several stores and a report."""

import pickle

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts


@pytest.fixture(params=["run", "store", "stores", "pickled store"])
def layers(request, tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    with ts.capture(model, "*", storage_path=tmp_path / "run.zarr") as run:
        model(torch.ones(4, 2))
    store = ts.Store(tmp_path / "run.zarr")
    return {
        "run": run,
        "store": store,
        "stores": ts.open_stores([tmp_path / "run.zarr"]),
        "pickled store": pickle.loads(pickle.dumps(store)),
    }[request.param]


def test_a_mapping_in_the_order_of_the_model(layers):
    names = ["0_post_states", "1_post_states"]
    assert list(layers) == list(layers.keys()) == names
    assert [layer.name for layer in layers.values()] == names
    assert [(name, layer.neurons) for name, layer in layers.items()] == [(n, 3) for n in names]
    assert len(layers) == 2
    assert "1" in layers
    assert "2" not in layers
    assert layers.get("2") is None
    assert 1 in layers
    assert 2 not in layers
    assert layers.get(2, "none") == "none"
    assert {layers: 1}[layers] == 1
    assert layers == layers
    assert layers != dict(layers)


@pytest.mark.parametrize("kind", ["layers", "report"])
def test_by_place_and_by_name(layers, kind):
    found = layers.report() if kind == "report" else layers
    name = "layer" if kind == "report" else "name"
    for place in (0, 1, -1, -2):
        assert getattr(found[place], name) == f"{place % 2}_post_states"
    assert getattr(found["1"], name) == "1_post_states"
    with pytest.raises(IndexError, match="has 2 layers, got index 2"):
        found[2]
    with pytest.raises(KeyError, match="has no states of 'relu'; there are "):
        found["relu"]


@pytest.mark.parametrize("kind", ["layers", "report"])
def test_by_what_is_no_name(layers, kind):
    """An integer of any type is a place; the rest is not there, as in any mapping."""
    found = layers.report() if kind == "report" else layers
    name = "layer" if kind == "report" else "name"
    assert getattr(found[np.int64(1)], name) == "1_post_states"
    assert getattr(found[np.uint8(0)], name) == "0_post_states"
    with pytest.raises(IndexError, match="has 2 layers, got index 2"):
        found[np.int64(2)]
    for other in (None, 1.5, True, np.True_, b"1", slice(0, 1), ("1",), ["1"]):
        with pytest.raises(KeyError, match=r"by name \(a str\) or place \(an int\), got "):
            found[other]
        if kind == "layers":
            assert other not in found
            assert found.get(other, "none") == "none"
