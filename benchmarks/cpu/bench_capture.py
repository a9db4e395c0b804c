"""What capture costs: forward passes bare, with our hooks, with hooks one would write oneself.

Beside them the least that any look at the activations costs: one thread reading each output once.
"""

import copy
import statistics
import time

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from benchmarks.harness.compare import time_in_turn
from benchmarks.harness.networks import NETWORKS
from tensorstate_gpu.bridges.pytorch.hooks import StateCaptureHook
from tensorstate_gpu.cpu_fallback.packer import Packer

ROUNDS = 31


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


def with_one_look(model, kind):
    """Read each output once, by one thread: NumPy's max."""

    def hook(module, args, output):
        output.numpy().max()

    return with_hooks(model, kind, hook, [])


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


class Clock:
    """Seconds spent in a function of a class or module while it is replaced by a timed one."""

    def __init__(self, owner, name, monkeypatch):
        function = getattr(owner, name)

        def timed(*args, **kwargs):
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start

        self.seconds = 0.0
        monkeypatch.setattr(owner, name, timed)


def time_within(forward, inputs, rounds):
    """Medians per forward pass: seconds in all, in our hooks, and in packing within them."""
    found = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        hooks = Clock(StateCaptureHook, "receive", monkeypatch)
        packing = Clock(Packer, "pack", monkeypatch)  # of batches that are like the first
        for _ in range(rounds):
            hooks.seconds = packing.seconds = 0.0
            start = time.perf_counter()
            forward(inputs)
            found.append((time.perf_counter() - start, hooks.seconds, packing.seconds))
    return [statistics.median(column) for column in zip(*found, strict=True)]


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
        "one look": with_one_look(copy.deepcopy(model), kind),
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
        rounds = ROUNDS if benchmark.enabled else 1
        benchmark.extra_info["within"] = {
            keep: time_within(forwards[keep], inputs, rounds) for keep in ("states", "counts")
        }
    states, counts = (forwards[keep].efficiency_layers for keep in ("states", "counts"))
    for one, other in zip(states, counts, strict=True):
        assert one.state_count > 0
        assert other.state_count > 0
