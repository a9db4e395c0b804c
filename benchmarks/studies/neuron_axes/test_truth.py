"""The truth about neuron axes, on models of which it is known."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.studies.neuron_axes.neurons import spread_constants
from benchmarks.studies.neuron_axes.passes import Inputs, leaf_layers
from benchmarks.studies.neuron_axes.truth import judged, true_axes


class Function(nn.Module):
    """A layer without parameters that returns function(x)."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of (N, C, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Conv1D(nn.Module):
    """A dense layer with its weight the other way round, and a bias that starts as zero."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias


class Scaled(nn.Module):
    """Has a number for each neuron, and one for each token."""

    def __init__(self, tokens: int, neurons: int) -> None:
        super().__init__()
        self.tokens, self.neurons = (
            nn.Parameter(torch.randn(tokens, 1)),
            nn.Parameter(torch.randn(neurons)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.tokens * self.neurons


class NormWithActivation(nn.GroupNorm):
    """A norm that holds its activation, as in timm."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)
        self.act = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(super().forward(x))


class Uncalled(nn.Module):
    """Computes with the weights of a child that it never calls."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.act = nn.Linear(6, 10), nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(F.linear(x, self.dense.weight).transpose(1, 2))


class Attention(nn.Module):
    """Self-attention with layers that look at each tensor in it."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.packed = nn.Linear(width, 3 * width)
        self.key, self.scores = nn.Identity(), nn.Identity()
        self.apart, self.merged = nn.Identity(), nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, tokens, width = x.shape
        packed = self.packed(x).reshape(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = packed.unbind(0)
        scores = self.scores((query @ self.key(key).mT).softmax(-1))
        apart = self.apart(scores @ value)
        return self.merged(apart.transpose(1, 2).reshape(n, tokens, width))


class SelfAttention(nn.MultiheadAttention):
    """torch's own, which computes with the weights of a child that it does not call."""

    def __init__(self) -> None:
        super().__init__(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x, x, x)[0]


class ClassToken(nn.Module):
    """Puts a token of its own before the others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token, self.drop = nn.Parameter(torch.randn(1, 1, width)), nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(torch.cat([self.token.expand(len(x), -1, -1), x], 1))


class Twice(nn.Module):
    """Calls one activation twice, on different layouts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.dense = nn.Conv2d(3, 8, 1), nn.GELU(), nn.Linear(8, 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.dense(self.act(self.conv(x)).permute(0, 2, 3, 1)))


def seq(*layers: Any) -> nn.Sequential:
    return nn.Sequential(*[x if isinstance(x, nn.Module) else Function(x) for x in layers])


IMAGE, TOKENS = (3, 3, 6, 10), (3, 7, 6)
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
    "tokens": (lambda: seq(nn.Linear(6, 9), nn.GELU()), TOKENS, "1", "known", (2,)),
    "two classes": (lambda: seq(nn.Linear(6, 2), nn.Sigmoid()), TOKENS, "1", "known", (2,)),
    "one neuron": (lambda: seq(nn.Linear(6, 1), nn.Sigmoid()), TOKENS, "1", "mixed", ()),
    "transposed tokens": (
        lambda: seq(nn.Linear(6, 9), lambda x: x.mT, nn.GELU()),
        TOKENS,
        "2",
        "known",
        (1,),
    ),
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
    "norm without weights": (
        lambda: seq(nn.Linear(6, 16), nn.LayerNorm(16, elementwise_affine=False)),
        TOKENS,
        "1",
        "known",
        (2,),
    ),
    "softmax over tokens": (
        lambda: seq(nn.Linear(6, 16), nn.Softmax(1)),
        TOKENS,
        "1",
        "known",
        (2,),
    ),
    "one feature for all tokens": (
        lambda: seq(
            nn.Linear(6, 9), lambda x: x @ noise(9, 9), lambda x: x * noise(7, 1), nn.Identity()
        ),
        TOKENS,
        "3",
        "mixed",
        (),
    ),
    "batch norm": (lambda: seq(CONV, nn.BatchNorm2d(8), nn.ReLU()), IMAGE, "2", "known", (1,)),
    "flattened conv": (lambda: seq(CONV, nn.Flatten()), IMAGE, "1", "known", (1,)),
    "conv as tokens": (
        lambda: seq(CONV, lambda x: x.flatten(2).mT, nn.Identity()),
        IMAGE,
        "2",
        "known",
        (2,),
    ),
    "pixel shuffle": (lambda: seq(CONV, nn.PixelShuffle(2)), IMAGE, "1", "known", (1,)),
    "pixel unshuffle": (lambda: seq(CONV, nn.PixelUnshuffle(2)), IMAGE, "1", "known", (1,)),
    "windows": (
        lambda: seq(
            CONV,
            lambda x: x.reshape(-1, 8, 2, 3, 2, 5).permute(0, 2, 4, 3, 5, 1).reshape(-1, 15, 8),
            nn.Identity(),
        ),
        IMAGE,
        "2",
        "known",
        (2,),
    ),
    "heads apart": (
        lambda: seq(nn.Linear(6, 12), lambda x: x.unflatten(2, (3, 4)).transpose(1, 2), nn.GELU()),
        TOKENS,
        "2",
        "split",
        (1, 3),
    ),
    "channels in the batch": (
        lambda: seq(CONV, lambda x: x.flatten(0, 1), nn.Identity()),
        IMAGE,
        "2",
        "batch",
        (0,),
    ),
    "mixed tokens": (
        lambda: seq(nn.Linear(6, 9), lambda x: x.mT, nn.Linear(7, 11), nn.GELU()),
        TOKENS,
        "3",
        "known",
        (2,),
    ),
    "a sum over neurons": (
        lambda: seq(nn.Linear(6, 9), lambda x: x.sum(2), nn.Identity()),
        TOKENS,
        "2",
        "mixed",
        (),
    ),
    "the input itself": (lambda: seq(nn.Identity(), CONV), IMAGE, "0", "untouched", ()),
    "weight (inputs, outputs)": (lambda: seq(Conv1D(6, 9), nn.GELU()), TOKENS, "1", "known", (2,)),
    "embedding": (
        lambda: seq(lambda x: x.gt(0).long()[..., 0], nn.Embedding(2, 9), nn.GELU()),
        TOKENS,
        "2",
        "known",
        (2,),
    ),
    "scales of tokens": (
        lambda: seq(nn.Linear(6, 9), Scaled(7, 9)),
        TOKENS,
        "1",
        "known",
        (2,),
    ),
    "shared layer": (
        lambda: seq(shared := nn.Linear(6, 6), lambda x: x.mT, shared, nn.Identity()),
        (3, 6, 6),
        "3",
        "known",
        (2,),
    ),
    "LSTM": (lambda: seq(nn.LSTM(6, 9, batch_first=True)), TOKENS, "0", "known", (2,)),
    "LSTM, then GELU": (
        lambda: seq(nn.LSTM(6, 9), lambda x: x[0], nn.GELU()),
        TOKENS,
        "2",
        "known",
        (2,),
    ),
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
    "uncalled child": (lambda: seq(nn.Linear(6, 6), Uncalled()), TOKENS, "1.act", "known", (1,)),
    "multi-head attention": (
        lambda: seq(nn.Linear(6, 12), SelfAttention(), nn.GELU()),
        TOKENS,
        "2",
        "known",
        (2,),
    ),
    "keys of heads": (
        lambda: seq(nn.Linear(6, 12), Attention()),
        TOKENS,
        "1.key",
        "split",
        (1, 3),
    ),
    "scores of heads": (
        lambda: seq(nn.Linear(6, 12), Attention()),
        TOKENS,
        "1.scores",
        "known",
        (1,),
    ),
    "values of heads": (
        lambda: seq(nn.Linear(6, 12), Attention()),
        TOKENS,
        "1.apart",
        "split",
        (1, 3),
    ),
    "merged heads": (lambda: seq(nn.Linear(6, 12), Attention()), TOKENS, "1.merged", "known", (2,)),
    "class token": (lambda: seq(nn.Linear(6, 9), ClassToken(9)), TOKENS, "1.drop", "known", (2,)),
    "random numbers": (
        lambda: seq(nn.Linear(6, 9), lambda x: x + torch.rand(x.shape), nn.Identity()),
        TOKENS,
        "2",
        "known",
        (2,),
    ),
    "zero-initialised norm": (
        lambda: seq(CONV, lambda x: x.permute(0, 2, 3, 1), zeroed(nn.LayerNorm(8)), nn.ReLU()),
        IMAGE,
        "3",
        "known",
        (3,),
    ),
}


def zeroed(layer: Any) -> nn.Module:
    nn.init.zeros_(layer.weight)
    return layer


def truths(
    make: Any, *arguments: torch.Tensor
) -> dict[tuple[str, int], tuple[str, tuple[int, ...]]]:
    torch.manual_seed(0)
    model = make().eval()
    spread_constants(model)
    before = [parameter.clone() for parameter in model.parameters()]
    found = true_axes(model, Inputs(arguments, batch=3))
    assert all(map(torch.equal, before, model.parameters())), "parameters have changed"
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    return {(truth.layer, truth.number): (truth.verdict, truth.axes) for truth in found}


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


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
