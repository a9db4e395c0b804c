"""Which axis holds the neurons, and which tensor is looked at, for every kind of layer."""

import dataclasses
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu.errors import BatchAxisWarning, GuessedAxisWarning
from tests.support.torch_models import expected_rows, images


def captured(model: nn.Module, layer: Any, *inputs: Any, **options: Any) -> Any:
    """The one capture point of a layer after one forward pass, and what the layer returned."""
    outputs: list[Any] = []
    names = [name for name, module in model.named_modules() if name] or [""]
    name = layer if layer in names else names[0]
    handle = model.get_submodule(name).register_forward_hook(lambda *seen: outputs.append(seen[2]))
    with ts.capture(model, layer, **options) as run:
        model(*inputs)
    handle.remove()
    (point,) = run.efficiency_layers
    return point, outputs[0]


# layer, shape of the input, neuron axis, instances
BY_TYPE: dict[str, tuple[nn.Module, tuple[int, ...], int, int]] = {
    "conv1d": (nn.Conv1d(2, 5, 2), (3, 2, 6), 1, 3),
    "conv2d": (nn.Conv2d(2, 5, 2), (3, 2, 6, 7), 1, 3),
    "conv3d": (nn.Conv3d(2, 5, 2), (3, 2, 4, 5, 6), 1, 3),
    "transposed 1d": (nn.ConvTranspose1d(2, 5, 2), (3, 2, 6), 1, 3),
    "transposed 2d": (nn.ConvTranspose2d(2, 5, 2), (3, 2, 6, 7), 1, 3),
    "transposed 3d": (nn.ConvTranspose3d(2, 5, 2), (3, 2, 3, 4, 5), 1, 3),
    "unbatched conv1d": (nn.Conv1d(2, 5, 2), (2, 6), 0, 1),
    "unbatched conv2d": (nn.Conv2d(2, 5, 2), (2, 6, 7), 0, 1),
    "unbatched conv3d": (nn.Conv3d(2, 5, 2), (2, 4, 5, 6), 0, 1),
    "batch norm of features": (nn.BatchNorm1d(5), (3, 5), 1, 3),
    "batch norm 1d": (nn.BatchNorm1d(5), (3, 5, 4), 1, 3),
    "batch norm 2d": (nn.BatchNorm2d(5), (3, 5, 4, 2), 1, 3),
    "batch norm 3d": (nn.BatchNorm3d(5), (3, 5, 4, 2, 2), 1, 3),
    "sync batch norm": (nn.SyncBatchNorm(5).eval(), (3, 5, 4), 1, 3),
    "group norm": (nn.GroupNorm(3, 6), (3, 6, 4), 1, 3),
    "instance norm 1d": (nn.InstanceNorm1d(5), (3, 5, 4), 1, 3),
    "instance norm 2d": (nn.InstanceNorm2d(5), (3, 5, 4, 2), 1, 3),
    "instance norm 3d": (nn.InstanceNorm3d(5), (3, 5, 4, 2, 2), 1, 3),
    "max pool 1d": (nn.MaxPool1d(2), (3, 5, 6), 1, 3),
    "max pool 2d": (nn.MaxPool2d(2), (3, 5, 6, 4), 1, 3),
    "average pool 1d": (nn.AvgPool1d(2), (3, 5, 6), 1, 3),
    "average pool 3d": (nn.AvgPool3d(2), (3, 5, 4, 4, 4), 1, 3),
    "adaptive average pool": (nn.AdaptiveAvgPool2d(2), (3, 5, 6, 4), 1, 3),
    "adaptive max pool 1d": (nn.AdaptiveMaxPool1d(2), (3, 5, 6), 1, 3),
    "unbatched pool": (nn.MaxPool2d(2), (5, 6, 4), 0, 1),
    "linear": (nn.Linear(4, 5), (3, 4), 1, 3),
    "linear on tokens": (nn.Linear(4, 5), (3, 7, 4), 2, 3),
    "linear on 4-D": (nn.Linear(4, 5), (3, 2, 7, 4), 3, 3),
    "layer norm": (nn.LayerNorm(4), (3, 7, 4), 2, 3),
    "layer norm on 4-D": (nn.LayerNorm(4), (3, 2, 7, 4), 3, 3),
    "rms norm": (nn.RMSNorm(4), (3, 7, 4), 2, 3),
    "gelu on features": (nn.GELU(), (3, 7), 1, 3),
}


@pytest.mark.parametrize("kind", BY_TYPE)
def test_neuron_axis_by_type(kind):
    layer, shape, axis, instances = BY_TYPE[kind]
    point, output = captured(layer, type(layer).__name__, images(*shape))
    assert (point.axis, point.instance_count) == (axis, instances)
    assert point.neurons == output.shape[axis]
    np.testing.assert_array_equal(point.raw_states, expected_rows(output, axis))


def test_unbatched_linear():
    point, output = captured(nn.Linear(4, 5), "Linear", images(4))
    assert (point.state_count, point.instance_count, point.neurons) == (1, 1, 5)
    np.testing.assert_array_equal(point.raw_states, expected_rows(output[None]))


def test_embedding():
    tokens = torch.arange(6).reshape(2, 3)
    point, output = captured(nn.Embedding(10, 5), "Embedding", tokens)
    assert (point.axis, point.neurons, point.instance_count) == (2, 5, 2)
    np.testing.assert_array_equal(point.raw_states, expected_rows(output))


class Whole(nn.Module):
    """A model of one layer: only submodules are offered where there are any."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.layer(*inputs)


# (sequence, batch, features) unless batch_first: states of one instance lie together either way.
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", ["attention", "lstm", "gru", "encoder layer"])
def test_sequence_layers(kind, batch_first):
    torch.manual_seed(0)
    layer: nn.Module
    if kind == "attention":
        layer = nn.MultiheadAttention(4, 2, batch_first=batch_first)
    elif kind == "encoder layer":
        layer = nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=batch_first)
    else:
        layer = (nn.LSTM if kind == "lstm" else nn.GRU)(4, 5, batch_first=batch_first)
    x = images(3, 7, 4)  # three instances of seven tokens
    given = x if batch_first else x.transpose(0, 1)
    inputs = (given,) * 3 if kind == "attention" else (given,)
    told = nullcontext() if batch_first else pytest.warns(BatchAxisWarning, match="batch_axis=1")
    with told:
        point, output = captured(Whole(layer), "layer", *inputs)
    output = output if isinstance(output, torch.Tensor) else output[0]
    by_instance = output if batch_first else output.transpose(0, 1)
    assert (point.instance_count, point.states_per_instance()) == (3, 7)
    assert point.neurons == output.shape[-1]
    np.testing.assert_array_equal(point.raw_states, expected_rows(by_instance))


# ---- activations follow the layer that feeds them ------------------------------------------------

FED = {
    "linear": (nn.Sequential(nn.Linear(4, 5), nn.ReLU()), "1", (3, 2, 6, 4), 3),
    "conv": (nn.Sequential(nn.Conv1d(4, 5, 1), nn.ReLU()), "1", (3, 4, 6), 1),
    "conv unbatched": (nn.Sequential(nn.Conv2d(4, 5, 1), nn.ReLU()), "1", (4, 6, 2), 0),
    "through two": (
        nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.0), nn.GELU()),
        "2",
        (3, 2, 6, 4),
        3,
    ),
    "nested": (
        nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.Sequential(nn.ReLU()))),
        "1.0.0",
        (3, 2, 6, 4),
        3,
    ),
    "out of nested": (
        nn.Sequential(nn.Sequential(nn.Linear(4, 5), nn.Identity()), nn.ReLU()),
        "1",
        (3, 2, 6, 4),
        3,
    ),
    "after flatten": (
        nn.Sequential(nn.Conv1d(4, 5, 1), nn.Flatten(), nn.ReLU()),
        "2",
        (3, 4, 6),
        1,
    ),
    "flatten of the end": (
        nn.Sequential(nn.Conv2d(4, 5, 1), nn.Flatten(2), nn.ReLU()),
        "2",
        (3, 4, 6, 2),
        1,
    ),
}


@pytest.mark.parametrize("kind", FED)
def test_activations_follow_the_layer_that_feeds_them(kind):
    model, name, shape, axis = FED[kind]
    point, output = captured(model, name, images(*shape))
    assert (point.axis, point.neurons) == (axis, output.shape[axis])
    np.testing.assert_array_equal(point.raw_states, expected_rows(output, axis))


def test_an_empty_sequential_passes_what_feeds_it():
    model = nn.Sequential(nn.Linear(4, 5), nn.Sequential(), nn.ReLU())
    assert captured(model, "2", images(3, 2, 6, 4))[0].axis == 3


def test_the_input_of_an_activation_follows_its_feeder_too():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU())
    with ts.capture(model, "1", method="before") as run:
        model(images(3, 2, 6, 4))
    assert (run["1_pre_states"].axis, run["1_pre_states"].neurons) == (3, 5)


def test_the_input_and_output_of_a_sequential_are_those_of_its_ends():
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 5), nn.ReLU()))
    with ts.capture(model, "0", method="both") as run:
        model(images(3, 2, 6, 4))
    assert [(point.axis, point.neurons) for point in run.efficiency_layers] == [(3, 4), (3, 5)]


@pytest.mark.parametrize(
    ("shape", "axis"), [((3, 7, 4), 2), ((3, 5, 6, 4), 1), ((3, 5, 2, 6, 4), 1)]
)
def test_without_a_layer_before_it_an_axis_is_guessed_and_that_is_said(shape, axis):
    model = nn.Sequential(nn.ReLU(), nn.Linear(4, 5))
    message = "0_post_states .no torch functions lead to it from a layer with weights"
    with pytest.warns(GuessedAxisWarning, match=message):
        point, output = captured(model, "0", images(*shape))
    assert (point.axis, point.axis_origin, point.neurons) == (axis, "guess", shape[axis])
    np.testing.assert_array_equal(point.raw_states, expected_rows(output, axis))


def test_an_activation_that_is_called_twice_has_a_capture_point_for_each_call():
    act = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(2, 5, 1), act, nn.Linear(4, 6), act)
    with ts.capture(model, "1") as run:
        model(images(3, 2, 6, 4))
    first, second = run.efficiency_layers
    assert (first.name, first.axis, first.neurons, first.state_count) == (
        *("1_post_states", 1, 5),
        3 * 6 * 4,
    )
    assert (second.name, second.axis, second.neurons, second.state_count) == (
        *("1:2_post_states", 3, 6),
        3 * 5 * 6,
    )


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3])
def test_neuron_axis_overrides_and_the_report_shows_it(axis):
    model = nn.Sequential(nn.Conv2d(2, 5, 2))
    point, output = captured(model, "0", images(3, 2, 6, 7), neuron_axis=axis)
    np.testing.assert_array_equal(point.raw_states, expected_rows(output, axis))
    assert point.neurons == output.shape[axis]
    assert point.instance_count == (1 if axis == 0 else 3)
    report = ts.report(dataclasses.make_dataclass("M", ["efficiency_layers"])([point]))
    assert [layer.axis for layer in report.layers] == [axis]
    heading, _, row = str(report).splitlines()[:3]
    assert heading.split()[1] == "axis"
    assert row.split()[1] == str(axis)


def test_channels_last_gives_the_same_states():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Conv2d(3, 9, 3), nn.ReLU()), images(4, 3, 8, 7)
    rows = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        model = model.to(memory_format=memory_format)
        point, output = captured(model, "0", x.to(memory_format=memory_format))
        assert output.is_contiguous(memory_format=memory_format)
        rows.append(point.raw_states)
        np.testing.assert_array_equal(rows[-1], expected_rows(output, 1))
    np.testing.assert_array_equal(rows[0], rows[1])


def test_threshold_for_all_and_per_neuron():
    layer, x = nn.Linear(4, 3), images(50, 4)
    for threshold in (0.5, -1, [0.0, 0.5, -0.5], np.array([1.0, 0.0, 0.25])):
        point, output = captured(layer, "Linear", x, threshold=threshold)
        np.testing.assert_array_equal(point.raw_states, expected_rows(output, 1, threshold))
    with pytest.raises(ValueError, match="thr"):
        ts.build_efficiency_model(layer, "Linear", threshold=[0.0, 1.0])
