"""Which model input a row belongs to, followed from the inputs: windows, sequences first."""

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.followed_models import Calls, windows
from tests.support.torch_models import expected_rows, images

FC = {"fc": nn.Linear(4, 9)}


def rows_of_input(output, axis, batch):
    """The rows of each input: of an output with the inputs along ``batch``."""
    moved = output.detach().movedim(batch, 0)
    return [expected_rows(each[None], axis) for each in moved]


@pytest.mark.parametrize("batch_axis", [0, 1, -2])
def test_rows_go_to_their_input_in_sequence_first_models(batch_axis):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 9, 0.0, batch_first=batch_axis == 0)
    with ts.capture(layer, "linear1", batch_axis=batch_axis) as run:
        output: list[torch.Tensor] = []
        layer.linear1.register_forward_hook(lambda *seen: output.append(seen[2]))
        layer(images(3, 7, 4) if batch_axis == 0 else images(7, 3, 4))
    point = run["linear1_post_states"]
    assert (point.axis, point.neurons, point.instance_count) == (2, 9, 3)
    each = rows_of_input(output[0], 2, batch_axis % 3)
    np.testing.assert_array_equal(point.raw_states, np.concatenate(each))


def test_windows_belong_to_their_image():
    torch.manual_seed(0)
    model = Calls(windows, **FC)
    with ts.capture(model, "act") as run:
        output = model(images(2, 6, 8, 4))
        model(images(2, 6, 8, 4, seed=1))
    point = run["act_post_states"]
    assert (point.instance_count, point.states_per_instance()) == (4, 48)
    first = expected_rows(output.reshape(2, 48, 9)[:1])
    np.testing.assert_array_equal(point.raw_states[:48], first)


def test_inputs_that_lie_within_an_axis():
    """(windows * batch, ...), of which every second row belongs to an input."""
    model = Calls(lambda m, x: m.fc(x).transpose(0, 1).flatten(0, 1), **FC)
    with ts.capture(model, "act") as run:
        output = model(images(3, 7, 4))
        model(images(2, 7, 4))
    point = run["act_post_states"]
    assert (point.instance_count, point.states_per_instance()) == (5, 7)
    each = rows_of_input(output.reshape(7, 3, 9), 2, 1)
    np.testing.assert_array_equal(point.raw_states[:21], np.concatenate(each))
