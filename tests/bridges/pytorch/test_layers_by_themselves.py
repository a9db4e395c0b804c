"""Layers of a model that other code calls, outside of the model's passes."""

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.followed_models import Calls
from tests.support.torch_models import expected_rows, images

LABELS = ["a", "b", "c", "d"]


def loop_of(model):
    def call(x):
        for layer in model:
            x = layer(x)

    return call


def rows_by_label(states, neurons, inputs):
    """The rows of each input: of states with the inputs along the axis ``inputs``."""
    moved = states.detach().movedim((inputs, neurons), (0, -1))
    return {label: expected_rows(each[None], -1) for label, each in zip(LABELS, moved, strict=True)}


@pytest.mark.parametrize("batch_axis", [1, -2])
@pytest.mark.parametrize("traced", [False, True], ids=["loop", "torch.fx"])
@pytest.mark.parametrize("steps", [4, 5])
def test_inputs_lie_along_the_batch_axis_of_the_model(batch_axis, traced, steps):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 9), nn.Linear(9, 5)), images(steps, 4, 3)
    call = torch.fx.symbolic_trace(model) if traced else loop_of(model)
    states = (model[0](x), model(x))
    with ts.capture(model, "Linear", batch_axis=batch_axis) as run:
        for _ in range(2):
            call(x)
    assert run.instance_count == 8
    with ts.capture(model, "Linear", batch_axis=batch_axis) as run, run.labels(LABELS):
        call(x)
    for point, output in zip(run.values(), states, strict=True):
        by_label = point.counts_by()
        for label, rows in rows_by_label(output, 2, 1).items():
            counts = by_label[label]
            found = np.repeat(counts.packed, counts.counts.astype(int), axis=0)
            assert sorted(map(bytes, found)) == sorted(map(bytes, rows))


def test_labels_tell_where_the_inputs_are_if_not_along_the_batch_axis():
    model = nn.Sequential(nn.Linear(3, 9))
    with ts.capture(model, "Linear", batch_axis=1) as run:
        with run.labels(LABELS):
            model[0](images(4, 5, 3))
        with run.labels(LABELS):
            model[0](images(4, 3))  # its last axis holds the neurons
        with run.labels(LABELS):
            model[0](images(6, 5, 3))
    point = run[0]
    with pytest.raises(ts.errors.InputsUnknown, match="30 of 54 states"):
        point.counts_by()


def test_stages_have_the_inputs_along_the_batch_axis_of_the_model():
    model, x = nn.Sequential(nn.Linear(3, 9), nn.Linear(9, 5)), images(5, 4, 3)
    with ts.capture(model, "Linear", batch_axis=1, stage_rows=100) as run:
        for _ in range(2):
            loop_of(model)(x)
    assert run.instance_count == 8


@pytest.mark.parametrize(
    ("layer", "shape", "inputs"),
    [
        (nn.GRU(3, 9, batch_first=True), (4, 5, 3), 4),
        (nn.GRU(3, 9), (5, 4, 3), 4),
        (nn.Conv1d(3, 9, 1), (4, 3, 5), 4),
        (nn.Conv1d(3, 9, 1), (3, 5), 1),
        (nn.GroupNorm(1, 3), (4, 3, 2, 2), 4),
    ],
    ids=["batch first", "batch second", "convolution", "one image", "norm"],
)
@pytest.mark.parametrize("batch_axis", [0, 1, 2])
def test_definitions_of_layers_tell_where_inputs_are(layer, shape, inputs, batch_axis):
    model = Calls(lambda model, x: model.layer(x), layer=layer)
    with ts.capture(model, "layer", batch_axis=batch_axis) as run:
        model.layer(images(*shape))
    assert run.instance_count == inputs
