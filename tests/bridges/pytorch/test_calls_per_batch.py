"""How many functions of Python a captured batch calls: where layers are small, these take longest.

Counts are the same on every run. From Python 3.12 on, fewer functions are called.
"""

from contextlib import nullcontext

import pytest
import torch

import tensorstate_gpu as ts
from tests.support.python_calls import calls_of

X = torch.linspace(-1, 1, 32 * 64).reshape(32, 64)


def calls_of_pass(layers, options):
    """Of a pass of a model with so many layers; options: None if it is not captured."""
    model = torch.nn.Sequential(*(torch.nn.Linear(64, 64) for _ in range(layers)))
    block = nullcontext() if options is None else ts.capture(model, "Linear", **options)
    with torch.no_grad(), block:
        for _ in range(3):  # the first passes are followed, and allocate
            model(X)
        return len(calls_of(lambda: model(X)))


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 44), ({"keep": "counts"}, 48), ({"keep": "counts", "groups": 4}, 81)],
)
def test_of_each_layer(options, most):
    ours = [calls_of_pass(layers, options) - calls_of_pass(layers, None) for layers in (2, 4)]
    assert (ours[1] - ours[0]) / 2 <= most


def test_of_a_pass():
    """With which it begins and ends, beside those of its layers."""
    ours = [calls_of_pass(layers, {}) - calls_of_pass(layers, None) for layers in (2, 4)]
    assert 2 * ours[0] - ours[1] <= 65


def test_of_the_operator_of_compiled_graphs_where_nothing_is_captured():
    model = torch.nn.Sequential(torch.nn.Linear(64, 64))
    with ts.capture(model, "Linear") as run:
        point = run[0]
        point.active = False
        operator, clock = torch.ops.tensorstate_gpu.capture.default, point.pass_log.counter.tensor
        calls = calls_of(lambda: operator(X, point._anchor, clock, ""))
    assert [name for _, name in calls] == ["OpOverload.__call__", "_capture"]
