"""What capture costs: forward passes bare, with our hooks, with hooks one would write oneself."""

import copy

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from benchmarks.compare import time_in_turn
from benchmarks.models import NETWORKS

ROUNDS = 15


def with_naive_hooks(model, kind):
    """Compare, copy to the host, pack with NumPy, keep."""
    kept = []

    def hook(module, args, output):
        fired = (output > 0).cpu().numpy()
        axis = 1 if fired.ndim == 4 else -1
        kept.append(np.packbits(np.moveaxis(fired, axis, -1), axis=-1, bitorder="little"))

    return with_hooks(model, kind, hook, kept)


def with_cached_activations(model, kind):
    """Keep the floats themselves."""
    kept = []
    return with_hooks(model, kind, lambda module, args, output: kept.append(output.detach()), kept)


def with_hooks(model, kind, hook, kept):
    for module in model.modules():
        if isinstance(module, kind):
            module.register_forward_hook(hook)

    def forward(inputs):
        kept.clear()
        model(inputs)

    return forward


def with_our_hooks(model, kind, keep):
    ts.build_efficiency_model(model, kind, keep=keep)
    return model


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.quick] if "LeNet" in name else []) for name in NETWORKS],
)
def test_capture(benchmark, name):
    make, draw, kind = NETWORKS[name]
    torch.manual_seed(0)
    model = make().eval()
    inputs = draw()
    inputs = inputs if benchmark.enabled else inputs[:2]
    forwards = {
        "bare": copy.deepcopy(model),
        "states": with_our_hooks(copy.deepcopy(model), kind, "states"),
        "counts": with_our_hooks(copy.deepcopy(model), kind, "counts"),
        "naive hook": with_naive_hooks(copy.deepcopy(model), kind),
        "cached activations": with_cached_activations(copy.deepcopy(model), kind),
    }
    with torch.no_grad():
        time_in_turn(
            benchmark,
            {what: lambda f=forward: f(inputs) for what, forward in forwards.items()},
            amount=len(inputs),
            unit="inputs/s",
            rounds=ROUNDS,
        )
    states, counts = (forwards[keep].efficiency_layers for keep in ("states", "counts"))
    for one, other in zip(states, counts, strict=True):
        assert one.state_count > 0
        assert other.state_count > 0
