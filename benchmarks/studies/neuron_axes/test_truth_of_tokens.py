"""The truth about neuron axes, on models of tokens: attention, experts, recurrent layers."""

from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.studies.neuron_axes.known_models import (
    IMAGE,
    TOKENS,
    Attention,
    ClassToken,
    Conv1D,
    Experts,
    RelativeAttention,
    Router,
    Scaled,
    SelfAttention,
    Sliced,
    Uncalled,
    noise,
    seq,
    truths,
)

CONV = nn.Conv2d(3, 8, 3, padding=1)
# model, shape of the input, layer, verdict, axes
CASES: dict[str, tuple[Any, tuple[int, ...], str, str, tuple[int, ...]]] = {
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
    "conv as tokens": (
        lambda: seq(CONV, lambda x: x.flatten(2).mT, nn.Identity()),
        IMAGE,
        "2",
        "known",
        (2,),
    ),
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
    "uncalled child": (lambda: seq(nn.Linear(6, 6), Uncalled()), TOKENS, "1.act", "known", (1,)),
    "multi-head attention": (
        lambda: seq(nn.Linear(6, 12), SelfAttention(), nn.GELU()),
        TOKENS,
        "2",
        "known",
        (2,),
    ),
    "attention by relative places": (
        lambda: seq(RelativeAttention(6)),
        TOKENS,
        "0.pool",
        "known",
        (1,),
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
    "router": (lambda: seq(Router(6, 9), nn.Softmax(-1)), TOKENS, "1", "known", (2,)),
    "in experts": (lambda: seq(nn.Linear(6, 6), Experts()), TOKENS, "1.act", "known", (1,)),
    "after experts": (lambda: seq(nn.Linear(6, 6), Experts()), TOKENS, "1.out", "known", (1,)),
    "positions": (lambda: seq(nn.Linear(6, 9), Router(7, 9, True)), TOKENS, "1", "known", (2,)),
    "norm without weights, of a part": (lambda: seq(Sliced(6)), TOKENS, "0.norm", "known", (2,)),
}


@pytest.mark.parametrize("name", CASES)
def test_axis_is_that_of_the_neurons(name):
    make, shape, layer, verdict, axes = CASES[name]
    assert truths(make, noise(*shape))[layer, 0] == (verdict, axes)
