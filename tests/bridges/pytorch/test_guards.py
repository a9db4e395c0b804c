"""How many guards torch.compile checks in each pass for each captured layer."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.pytorch.unchecked_graphs import _graphs
from tests.support.torch_models import images

pytestmark = pytest.mark.usefixtures("nothing_compiled_before")


def number_below(guards):
    """How many guards a tree of them has."""
    children = guards.get_child_managers()
    if hasattr(guards, "get_key_value_managers"):  # of a dict
        pairs = guards.get_key_value_managers().values()
        children += [child for pair in pairs for child in pair if child is not None]
    return len(guards.get_leaf_guards()) + sum(map(number_below, children))


def guards_of(layers, options):
    """Of the last graph of a model with so many layers; options: None if it is not captured."""
    torch.compiler.reset()
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(layers)))
    block = nullcontext() if options is None else ts.capture(model, "Linear", **options)
    with torch.no_grad(), block:
        call = torch.compile(model, backend="eager")
        for seed in range(2):  # the first pass creates stages
            call(images(4, 8, seed=seed))
        return number_below([*_graphs()][-1].guard_manager.root)


@pytest.mark.skipif(torch.__version__ < "2.13", reason="older versions of torch make others")
@pytest.mark.parametrize(("options", "most"), [({}, 15), ({"stage_rows": 100}, 18)])
def test_of_each_layer(options, most):
    """Of these, torch makes six for any hook, and two for each tensor."""
    ours = [guards_of(layers, options) - guards_of(layers, None) for layers in (2, 4)]
    assert (ours[1] - ours[0]) / 2 <= most
