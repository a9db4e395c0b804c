"""Small models of which it is known where their neurons are, and the truth that is found."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .neurons import spread_constants
from .passes import Inputs
from .truth import true_axes

IMAGE, TOKENS = (3, 3, 6, 10), (3, 7, 6)


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


class Router(nn.Module):
    """Has one matrix: the weights of a router, or something to add for each token."""

    def __init__(self, inputs: int, outputs: int, added: bool = False) -> None:
        super().__init__()
        self.added = added
        self.weight = nn.Parameter(noise(*((inputs, outputs) if added else (outputs, inputs))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.weight if self.added else F.linear(x, self.weight)


class Experts(nn.Module):
    """Stacks of matrices, of which each token goes through one. It is called with all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Parameter(noise(3, 6, 10))
        self.narrow = nn.Parameter(noise(3, 10, 6))
        self.narrow_bias = nn.Parameter(noise(3, 6))
        self.act, self.out = nn.GELU(), nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(0, 1)
        expert = torch.arange(len(rows)) % 3
        hidden = self.act(torch.einsum("ti,tio->to", rows, self.wide[expert]))
        found = torch.einsum("ti,tio->to", hidden, self.narrow[expert]) + self.narrow_bias[expert]
        return self.out(found).view(x.shape)


class Sliced(nn.Module):
    """A norm without weights, of a few of the neurons of a layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, 40)
        self.norm = nn.RMSNorm(6, elementwise_affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.dense(x)[..., :6])


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


class RelativePositions(nn.Module):
    """A table of relative positions: a row of it concerns few pairs of tokens."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(2 * tokens - 1, width))
        places = torch.arange(tokens)
        self.distances = places[None] - places[:, None] + tokens - 1

    def forward(self, queries: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bqd,qkd->bqk", queries, self.table[self.distances])


class RelativeAttention(nn.Module):
    """Attention of 7 tokens by content and place; neurons on axis 1 of what the pool gets."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.places = nn.Linear(width, 3 * width), RelativePositions(7, width)
        self.pool = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        queries, keys, values = self.qkv(x).chunk(3, -1)
        shares = (queries @ keys.mT + self.places(queries)).softmax(-1)
        return self.pool((shares @ values).mT)


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
