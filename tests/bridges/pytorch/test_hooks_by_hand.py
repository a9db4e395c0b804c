"""Hooks that are placed by hand, as those of PyTorch."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu._capturing.options import CaptureOptions
from tensorstate_gpu.bridges.pytorch.models import attach_in_place
from tests.support.torch_models import expected_rows, images


def test_by_hand_as_a_forward_hook():
    layer, hook = nn.Conv2d(2, 3, 2), ts.StateCaptureHook("conv")
    handle = layer.register_forward_hook(hook)
    output = layer(images(4, 2, 5, 6))
    np.testing.assert_array_equal(hook.raw_states, expected_rows(output, 1))
    assert (hook.axis, hook.states_per_instance()) == (1, 20)
    handle.remove()
    layer(images(4, 2, 5, 6))
    assert hook.state_count == 80


def test_by_hand_as_a_pre_hook_which_receives_a_tuple():
    layer, hook = nn.Conv2d(2, 3, 2), ts.StateCaptureHook("conv", keep="counts")
    received: list[Any] = []
    layer.register_forward_pre_hook(lambda module, args: received.append(args))
    layer.register_forward_pre_hook(hook)
    x = images(4, 2, 5, 6)
    layer(x)
    assert isinstance(received[0], tuple)
    assert hook.histogram() == ts.count_states(expected_rows(x, 1), neurons=2)


@pytest.mark.parametrize("always_call", [False, True])
def test_by_hand_with_keyword_arguments_noted_by_torch(always_call):
    layer, hook = nn.Linear(2, 3), ts.StateCaptureHook("linear")
    layer.register_forward_hook(hook, always_call=always_call)
    layer(images(4, 2))
    assert hook.state_count == 4


def test_by_hand_with_options_and_labels(tmp_path):
    layer = nn.Linear(2, 3)
    hook = ts.StateCaptureHook("linear", tmp_path / "states", threshold=0.5, neuron_axis=0)
    layer.register_forward_hook(hook)
    hook.labels(["all"])
    output = layer(images(4, 2))
    np.testing.assert_array_equal(hook.raw_states, expected_rows(output, 0, 0.5))
    assert (hook.neurons, hook.instance_count) == (4, 1)
    assert hook.counts_by()["all"].total == 3


def test_by_hand_with_kwargs_takes_the_output():
    class Doubled(nn.Module):
        def forward(self, x, mask=None):
            return 2 * x

    model, hook = Doubled(), ts.StateCaptureHook("layer")
    model.register_forward_hook(hook, with_kwargs=True)
    model(torch.ones(5, 3), mask=torch.zeros(5, 7))
    assert (hook.neurons, hook.state_count) == (3, 5)


@pytest.mark.parametrize("with_kwargs", [False, True])
@pytest.mark.parametrize("always_call", [False, True])
def test_by_hand_in_every_place_with_outputs_that_are_dicts(with_kwargs, always_call):
    class Pair(nn.Module):
        def forward(self, x, scale=None):
            return {"wide": torch.cat([x, x], 1), "width": scale}

    before, after = ts.StateCaptureHook("before"), ts.StateCaptureHook("after")
    model = Pair()
    model.register_forward_pre_hook(before, with_kwargs=with_kwargs)
    model.register_forward_hook(after, with_kwargs=with_kwargs, always_call=always_call)
    model(torch.ones(5, 3), scale=torch.ones(5, 7))
    assert (before.neurons, before.state_count) == (3, 5)
    assert (after.neurons, after.state_count) == (6, 5)


def test_a_pre_hook_with_kwargs_takes_a_keyword_where_there_is_nothing_else():
    layer, hook = nn.Linear(2, 3), ts.StateCaptureHook("linear")
    layer.register_forward_pre_hook(hook, with_kwargs=True)
    layer(input=images(4, 2))
    assert (hook.neurons, hook.state_count) == (2, 4)


def test_keywords_are_in_the_order_of_the_call():
    class Attention(nn.Module):
        def forward(self, query, key):
            return query + key

    model, hook = Attention(), ts.StateCaptureHook("attention")
    hook.attach(model, before=True)
    model(query=images(4, 2), key=-images(4, 2))
    np.testing.assert_array_equal(hook.raw_states, expected_rows(images(4, 2)))


class MadeInAnotherWay(ts.StateCaptureHook):
    def __init__(self, room):
        super().__init__(f"{room}_post_states")


def test_a_class_of_the_user_whose_layer_is_called_twice():
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    hooks = attach_in_place(
        model, [("0", layer)], "after", CaptureOptions(), new_hook=lambda *_: MadeInAnotherWay(7)
    )
    model(torch.ones(5, 4))
    (later,) = hooks[0].later_calls
    assert (later.name, later.state_count, hooks[0].state_count) == ("7:2_post_states", 5, 5)
