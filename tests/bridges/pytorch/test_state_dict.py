"""The state of a capture point, for checkpoints of a training: nothing but integers and tensors."""

import io

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import images


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 10, 3), nn.ReLU())


def saved(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def capture_part(model, run, labels, seeds):
    for seed in seeds:
        x = images(4, 3, 6, 6, seed=seed)
        if labels is None:
            model(x)
        else:
            with run.labels(labels(seed), units=["a", "a", "b", str(seed)]):
                model(x)


@pytest.mark.parametrize("groups", [None, 4])
@pytest.mark.parametrize(
    "labels", [None, lambda seed: [0, 1, 2, seed], lambda seed: ["", "x", "x", str(seed)]]
)
def test_a_capture_that_goes_on_from_a_state(labels, groups):
    model = network()
    options = {"keep": "counts", "groups": groups}
    with ts.capture(model, "*", **options) as whole:
        capture_part(model, whole, labels, range(5))
    with ts.capture(model, "*", **options) as first:
        capture_part(model, first, labels, range(3))
    with ts.capture(model, "*", **options) as second:
        model(images(9, 3, 6, 6))  # which the state replaces
        for name, point in second.items():
            point.load_state_dict(saved(first[name].state_dict()))
        capture_part(model, second, labels, range(3, 5))
    for name, point in second.items():
        expected = whole[name]
        assert point.histogram() == expected.histogram()
        assert point.instance_count == expected.instance_count == 20
        assert point.passes == expected.passes == (5, 5)
        assert (point.axis, point.axis_origin) == (expected.axis, expected.axis_origin)
        assert point.facts() == expected.facts()
        if labels is not None:
            assert point.counts_by() == expected.counts_by()
        if groups is not None:
            assert point.grouped() == expected.grouped()


def test_the_state_of_a_point_without_states():
    model = network()
    with ts.capture(model, "0", keep="counts") as run:
        state = saved(run[0].state_dict())
        model(images(2, 3, 6, 6))
        run[0].load_state_dict(state)
        assert run[0].state_count == 0
        model(images(1, 3, 6, 6))
    assert run[0].state_count == 16


def test_rows_are_for_stores():
    with ts.capture(network(), "0") as run, pytest.raises(ts.errors.RowsNotKept, match="a store"):
        run[0].state_dict()


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        ("1", {}, "another name: 1_post_states, not 0_post_states"),
        ("0", {"threshold": 1.0}, "another firing rule and groups"),
        ("0", {"groups": 4}, "another firing rule and groups"),
    ],
)
def test_the_state_of_another_point(layer, options, message):
    model = network()
    with ts.capture(model, layer, keep="counts", **options) as other:
        model(images(2, 3, 6, 6))
    with ts.capture(model, "0", keep="counts") as run:
        model(images(2, 3, 6, 6))
        with pytest.raises(ValueError, match=message):
            run[0].load_state_dict(other[0].state_dict())
        with pytest.raises(TypeError, match="state must be of state_dict"):
            run[0].load_state_dict({"weight": torch.ones(2)})
    assert run[0].state_count == 32
