"""Numbers without axes that a model computes of all its inputs: losses, means, largest values."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tensorstate_gpu as ts
from tests.support.followed_models import Calls
from tests.support.torch_models import images

pytestmark = pytest.mark.usefixtures("nothing_compiled_before")


def value(m, x):
    return m.fc(x).squeeze(-1)


LOSSES = {
    "regression": lambda m, x: F.mse_loss(value(m, x), x[:, 0]),
    "regression, squeezed": lambda m, x: F.mse_loss(m.fc(x).squeeze(), x[:, 0].squeeze()),
    "of a column": lambda m, x: F.mse_loss(m.fc(x), x[:, :1]),
    "binary": lambda m, x: F.binary_cross_entropy_with_logits(value(m, x), x[:, 0].sigmoid()),
    "by hand": lambda m, x: (value(m, x) - x[:, 0]).square().mean(),
    "scaled": lambda m, x: value(m, x).sum() * 0.5 - 1,
    "of scores": lambda m, x: F.softplus(-m.fc(x)).mean(),
    "largest": lambda m, x: value(m, x).max(),
    "summed by einsum": lambda m, x: torch.einsum("b->", value(m, x)),
    "of several neurons": lambda m, x: m.wide(x).norm(dim=1).mean(),
    "contrastive": lambda m, x: F.cosine_similarity(m.wide(x), m.wide(x + 1)).mean(),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("sizes", [(4, 3), (1, 4)])
@pytest.mark.parametrize("how", LOSSES)
def test_they_are_no_states_of_a_neuron(how, sizes, compiled):
    """Also of a model with one neuron, and of a batch of one input: squeeze() leaves as much."""
    model = Calls(LOSSES[how], fc=nn.Linear(4, 1), wide=nn.Linear(4, 5))
    called = torch.compile(model, backend="eager") if compiled else model
    skips = pytest.warns(ts.errors.SkippedLayersWarning, match=r"act_post_states \(a number")
    with skips, ts.capture(model, "act") as run:
        for size in sizes:
            assert called(images(size, 4)).ndim == 0
    assert run["act"].state_count == 0


def test_the_value_of_a_single_input_is_a_state_and_the_loss_of_several_is_not():
    """Both are numbers without axes, in passes of two kinds."""

    def value_or_loss(m, x):
        return m.fc(x).squeeze() if len(x) == 1 else value(m, x).mean()

    model = Calls(value_or_loss, fc=nn.Linear(4, 1))
    skips = pytest.warns(ts.errors.SkippedLayersWarning, match=r"act_post_states \(a number")
    with skips, ts.capture(model, "act") as run:
        for size in (1, 4, 1, 3):
            model(images(size, 4))
    assert (run["act"].neurons, run["act"].state_count, run["act"].passes) == (1, 2, (2, 4))


ENTRIES = {
    "first": lambda m, x: value(m, x)[0],
    "unbound": lambda m, x: value(m, x).unbind()[1],
    "computed with": lambda m, x: value(m, x)[0].tanh() * 2 + 1,
}


@pytest.mark.parametrize("how", ENTRIES)
def test_the_value_of_one_of_several_inputs_is_a_state(how):
    model = Calls(ENTRIES[how], fc=nn.Linear(4, 1))
    with ts.capture(model, "act") as run:
        fires = [int(model(images(size, 4)) > 0) for size in (4, 3)]
    assert (run["act"].neurons, run["act"].raw_states.ravel().tolist()) == (1, fires)
