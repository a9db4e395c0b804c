"""capture_on, the switch of capture points, and the shapes that reset_states() takes."""

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import images


def network():
    torch.manual_seed(0)
    act = nn.ReLU()
    return nn.Sequential(nn.Conv2d(1, 20, 3), act, nn.Conv2d(20, 5, 3), act)


@pytest.mark.parametrize("backend", [None, "eager"])
def test_a_point_that_is_switched_off_ignores_its_layer(backend):
    model = network()
    forward = torch.compile(model, backend=backend) if backend else model
    with ts.capture(model, "*") as run:
        first = run["0_post_states"]
        for capture_on, inputs in ((True, 1), (False, 2), (True, 4)):
            first.capture_on = capture_on
            with run.labels([capture_on] * inputs):
                forward(images(inputs, 1, 8, 8))
    assert first.instance_count == 5
    assert list(first.counts_by()) == [True]
    assert run["2_post_states"].instance_count == 7


def test_later_calls_follow_the_first():
    model = network()
    with ts.capture(model, "ReLU") as run:
        run["1_post_states"].capture_on = False
        model(images(2, 1, 8, 8))
        run["1_post_states"].capture_on = True
        model(images(3, 1, 8, 8))
        run["1:2_post_states"].capture_on = False
        model(images(4, 1, 8, 8))
    assert [point.instance_count for point in run.values()] == [7, 3]


@pytest.mark.parametrize("value", ["no", None, 1, nn.ReLU()])
def test_a_switch_takes_only_true_and_false(value):
    point = ts.StateCaptureHook("by_hand")
    with pytest.raises(TypeError, match="capture_on must be a bool"):
        point.capture_on = value
    assert point.capture_on is True
    point.capture_on = np.bool_(False)
    assert not point.takes_batch()


@pytest.mark.parametrize("kind", [ts.StateCaptureHook, ts.AbstractStateCapture])
def test_a_class_switches_all_its_points(kind, monkeypatch):
    model = ts.build_efficiency_model(network(), "Conv2d")
    model[0].register_forward_hook(by_hand := ts.StateCaptureHook("by_hand"))
    monkeypatch.setattr(kind, "capture_on", False)
    model(images(2, 1, 8, 8))
    assert [point.state_count for point in (*model.efficiency_layers, by_hand)] == [0, 0, 0]
    monkeypatch.undo()
    model(images(2, 1, 8, 8))
    assert [point.instance_count for point in (*model.efficiency_layers, by_hand)] == [2, 2, 2]


@pytest.mark.parametrize(
    ("layer", "shape", "neurons"),
    [
        (nn.Conv2d(1, 20, 3), (8, 20, 24, 24), 20),
        (nn.Conv2d(1, 20, 3), (20, 24, 25), 20),  # of one input
        (nn.LayerNorm(24), (8, 20, 23, 24), 24),
        (nn.Linear(3, 7), (8, 5, 7), 7),
        (nn.ReLU(), (8, 20, 24, 24), 20),
        (None, (8, 20, 24, 24), 20),
    ],
)
def test_a_reset_takes_the_axis_of_the_layer(layer, shape, neurons):
    hook = ts.StateCaptureHook("layer")
    if layer is not None:
        hook.attach(layer)
    hook.reset_states(shape)
    assert hook.max_entropy() == neurons


def test_a_reset_takes_the_axis_that_was_followed():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.act = nn.Linear(6, 9), nn.ReLU()

        def forward(self, x):
            return self.act(self.linear(x))

    model = ts.build_efficiency_model(Last(), "ReLU")
    model(images(2, 3, 4, 6))
    (point,) = model.efficiency_layers
    point.reset_states((2, 3, 4, 9))
    assert point.max_entropy() == 9
    model(images(2, 3, 4, 6))
    assert point.state_count == 24
