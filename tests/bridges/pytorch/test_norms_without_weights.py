"""Norms without weights have no neurons of their own: they leave those that there are."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tensorstate_gpu as ts
from tests.support.followed_models import Calls
from tests.support.torch_models import images

NORMS = {
    "layer_norm": lambda x: F.layer_norm(x, x.shape[-1:]),
    "rms_norm": lambda x: F.rms_norm(x, x.shape[-1:]),
    "instance_norm": F.instance_norm,
    "batch_norm": lambda x: F.batch_norm(x, None, None, training=True),
}


def scores(m, x):
    h = m.fc(x)
    return m.norm(h @ h.mT)


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_of_scores_makes_no_neurons_of_them(norm):
    model = Calls(scores, fc=nn.Linear(4, 9))
    model.norm = NORMS[norm]
    guessed = pytest.warns(ts.errors.GuessedAxisWarning, match="lost at")
    with torch.no_grad(), ts.capture(model, "act") as run, guessed:
        model(images(3, 7, 4))
    assert run["act"].axis_origin == "guess"


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_leaves_neurons_where_they_are(norm):
    model = Calls(lambda m, x: m.norm(m.conv(x)), conv=nn.Conv1d(4, 9, 1))
    model.norm = NORMS[norm]
    with torch.no_grad(), ts.capture(model, "act") as run:
        model(images(3, 4, 7))
    assert (run["act"].axis, run["act"].axis_origin) == (1, "flow")
