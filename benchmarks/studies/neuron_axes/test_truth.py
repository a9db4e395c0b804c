"""The truth about neuron axes, on models of which it is known: layers, and maps of channels."""

from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.studies.neuron_axes.known_models import (
    IMAGE,
    ChannelNorm,
    NormWithActivation,
    Twice,
    noise,
    seq,
    truths,
    zeroed,
)
from benchmarks.studies.neuron_axes.passes import leaf_layers
from benchmarks.studies.neuron_axes.truth import judged

CONV = nn.Conv2d(3, 8, 3, padding=1)
# model, shape of the input, layer, verdict, axes
CASES: dict[str, tuple[Any, tuple[int, ...], str, str, tuple[int, ...]]] = {
    "conv 1d": (lambda: seq(nn.Conv1d(6, 5, 3), nn.ReLU()), (3, 6, 9), "1", "known", (1,)),
    "conv 2d": (lambda: seq(CONV, nn.ReLU(), nn.MaxPool2d(2)), IMAGE, "2", "known", (1,)),
    "conv of two channels": (lambda: seq(nn.Conv2d(3, 2, 1)), IMAGE, "0", "known", (1,)),
    "unbatched": (lambda: seq(nn.Conv2d(3, 8, 1), nn.ReLU()), (3, 6, 10), "1", "known", (0,)),
    "transposed conv": (
        lambda: seq(nn.ConvTranspose2d(4, 8, 2, groups=2, bias=False), nn.ReLU()),
        (3, 4, 5, 6),
        "1",
        "known",
        (1,),
    ),
    "depthwise conv": (lambda: seq(CONV, nn.Conv2d(8, 8, 3, groups=8)), IMAGE, "1", "known", (1,)),
    "features": (lambda: seq(nn.Linear(6, 9), nn.Tanh()), (3, 6), "1", "known", (1,)),
    "channels last": (
        lambda: seq(CONV, lambda x: x.permute(0, 2, 3, 1), nn.Linear(8, 16), nn.GELU()),
        IMAGE,
        "3",
        "known",
        (3,),
    ),
    "back from channels last": (
        lambda: seq(
            CONV,
            lambda x: x.permute(0, 2, 3, 1),
            nn.Linear(8, 16),
            lambda x: x.permute(0, 3, 1, 2),
            nn.GELU(),
        ),
        IMAGE,
        "4",
        "known",
        (1,),
    ),
    "layer norm of channels": (lambda: seq(CONV, ChannelNorm(8)), IMAGE, "1", "known", (1,)),
    "layer norm of channels, then GELU": (
        lambda: seq(CONV, ChannelNorm(8), nn.GELU()),
        IMAGE,
        "2",
        "known",
        (1,),
    ),
    "batch norm": (lambda: seq(CONV, nn.BatchNorm2d(8), nn.ReLU()), IMAGE, "2", "known", (1,)),
    "flattened conv": (lambda: seq(CONV, nn.Flatten()), IMAGE, "1", "known", (1,)),
    "pixel shuffle": (lambda: seq(CONV, nn.PixelShuffle(2)), IMAGE, "1", "known", (1,)),
    "pixel unshuffle": (lambda: seq(CONV, nn.PixelUnshuffle(2)), IMAGE, "1", "known", (1,)),
    "channels in the batch": (
        lambda: seq(CONV, lambda x: x.flatten(0, 1), nn.Identity()),
        IMAGE,
        "2",
        "batch",
        (0,),
    ),
    "the input itself": (lambda: seq(nn.Identity(), CONV), IMAGE, "0", "untouched", ()),
    "weight norm": (
        lambda: seq(nn.utils.parametrizations.weight_norm(nn.Conv1d(6, 5, 3), dim=2), nn.GELU()),
        (3, 6, 9),
        "1",
        "known",
        (1,),
    ),
    "norm with activation": (
        lambda: seq(CONV, NormWithActivation(8)),
        IMAGE,
        "1.act",
        "known",
        (1,),
    ),
    "zero-initialised norm": (
        lambda: seq(CONV, lambda x: x.permute(0, 2, 3, 1), zeroed(nn.LayerNorm(8)), nn.ReLU()),
        IMAGE,
        "3",
        "known",
        (3,),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_axis_is_that_of_the_neurons(name):
    make, shape, layer, verdict, axes = CASES[name]
    assert truths(make, noise(*shape))[layer, 0] == (verdict, axes)


def test_parametrizations_are_no_layers():
    model = seq(nn.utils.parametrizations.weight_norm(nn.Conv1d(6, 5, 3)), nn.GELU())
    assert set(leaf_layers(model)) == {"0", "1"}


def test_each_call_of_a_layer_has_an_axis_of_its_own():
    found = truths(Twice, noise(*IMAGE))
    assert found["act", 0] == ("known", (1,))
    assert found["act", 1] == ("known", (3,))


def test_one_row_is_no_neuron_axis_beside_a_head():
    """A flip changes a head of channels, in one row only, since ReLUs hide it elsewhere."""
    changes = torch.zeros(2, 3, 8, 6, 10)
    changes[0, :, :4, 0] = changes[1, :, 4:, 5] = 1
    assert judged(list(changes), [None, None]) == ("split", (1, 2))
