"""Blocks made of layers: whole transformers, blocks known by their names, what feeds a Flatten."""

import threading
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu.errors import BatchAxisWarning
from tests.support.torch_models import expected_rows, images


class Whole(nn.Module):
    """A model with one layer, which may take several inputs."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(*inputs)


def transformer(kind: str, batch_first: bool) -> nn.Module:
    options = {"dropout": 0.0, "batch_first": batch_first}
    if kind == "encoder":
        layer = nn.TransformerEncoderLayer(4, 2, 8, **options)
        return nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
    if kind == "decoder":
        return nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 8, **options), 1)
    return nn.Transformer(4, 2, 1, 1, 8, **options)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", ["encoder", "decoder", "transformer"])
def test_whole_transformers(kind, batch_first):
    torch.manual_seed(0)
    layer, x = transformer(kind, batch_first), images(3, 7, 4)  # three instances of seven tokens
    given = x if batch_first else x.transpose(0, 1)
    told = nullcontext() if batch_first else pytest.warns(BatchAxisWarning)
    with told, ts.capture(Whole(layer), "layer") as run:
        output = layer(*(given,) * (1 if kind == "encoder" else 2))
    point = run["layer_post_states"]
    by_instance = output if batch_first else output.transpose(0, 1)
    assert (point.instance_count, point.states_per_instance(), point.neurons) == (3, 7, 4)
    np.testing.assert_array_equal(point.raw_states, expected_rows(by_instance))


@pytest.mark.parametrize(
    ("layer", "shape", "axis"),
    [
        (nn.LocalResponseNorm(2), (2, 5, 6), 1),
        (nn.CrossMapLRN2d(2), (2, 5, 6, 3), 1),
        (nn.FractionalMaxPool2d(2, output_size=2), (2, 5, 6, 6), 1),
        (nn.LPPool1d(2, 2), (2, 5, 6), 1),
    ],
)
def test_the_axis_of_less_common_layers(layer, shape, axis):
    torch.manual_seed(0)
    with ts.capture(Whole(layer), "layer") as run:
        output = layer(images(*shape))
    point = run["layer_post_states"]
    assert (point.axis, point.neurons, point.instance_count) == (axis, output.shape[axis], 2)
    np.testing.assert_array_equal(point.raw_states, expected_rows(output, axis))


def test_the_two_sides_of_a_flatten_have_axes_of_their_own():
    model = nn.Sequential(nn.Conv1d(4, 5, 1), nn.Flatten())
    with ts.capture(model, "Flatten", method="both") as run:
        model(images(3, 4, 6))
    before, after = run.efficiency_layers
    assert (before.axis, before.neurons, before.state_count) == (1, 5, 18)
    assert (after.axis, after.neurons, after.state_count) == (1, 30, 3)


def test_a_reset_by_another_thread_waits_for_the_end_of_a_batch(monkeypatch):
    waiting: list[bool] = []
    hook = ts.StateCaptureHook("linear")
    reset = threading.Thread(target=hook.reset_states)
    declare = hook.intake.declare

    def declare_and_reset(*arguments: int) -> None:
        declare(*arguments)
        reset.start()
        reset.join(0.2)
        waiting.append(reset.is_alive())

    monkeypatch.setattr(hook.intake, "declare", declare_and_reset)
    layer = nn.Linear(3, 4)
    layer.register_forward_hook(hook)
    layer(images(5, 3))
    reset.join()
    assert waiting == [True]
    assert hook.state_count == 0


def test_an_exception_before_the_first_row_leaves_no_folder(tmp_path):
    def capture():
        with ts.capture(nn.Linear(4, 3), storage_path=tmp_path / "new" / "run.zarr"):
            raise KeyError("before the first row")

    with pytest.raises(KeyError):
        capture()
    assert list(tmp_path.iterdir()) == []
