"""Copies of monitors, and of models that have them: with all counts, and at no model."""

import copy
import pickle

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts


class Measured(nn.Module):
    """A model that has its monitor as an attribute."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 8)
        self.monitor = ts.StateMonitor(self.layer, every_n_steps=1)

    def forward(self, x):
        return self.layer(x)


def by_pickle(value):
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("copied", [copy.deepcopy, by_pickle])
@pytest.mark.parametrize("stage_rows", [None, 100])
def test_a_copy_has_the_counts_and_captures_nothing(copied, stage_rows):
    model = nn.Sequential(nn.Linear(4, 8))
    monitor = ts.StateMonitor(model, "Linear", every_n_steps=1, stage_rows=stage_rows)
    model(torch.ones(3, 4))
    copy_of_it = copied(monitor)
    monitor.step()
    model(torch.ones(3, 4))
    assert copy_of_it.counts("0").total == 3
    copy_of_it.step()  # the pass was captured before
    with pytest.warns(UserWarning, match="needs a new monitor"):
        copy_of_it.step()
    copy_of_it.load_state_dict(monitor.state_dict())
    assert copy_of_it.counts("0") == monitor.counts("0")
    assert monitor.counts("0").total == 6
    copy_of_it.remove()
    model(torch.ones(3, 4))
    assert monitor.counts("0").total == 9


@pytest.mark.parametrize("copied", [copy.deepcopy, by_pickle])
def test_a_model_that_has_its_monitor_is_copied(copied):
    model = Measured()
    model(torch.ones(3, 4))
    ema = copied(model)
    ema(torch.ones(5, 4))
    model(torch.ones(3, 4))
    assert (model.monitor.counts("Linear").total, ema.monitor.counts("Linear").total) == (6, 3)


def test_a_compiled_model_is_copied_with_its_monitor():
    model = nn.Sequential(nn.Linear(4, 8))
    compiled = torch.compile(model, backend="eager")
    monitor = ts.StateMonitor(compiled, "Linear", every_n_steps=1)
    compiled(torch.ones(3, 4))
    copy.deepcopy(compiled)(torch.ones(5, 4))
    assert monitor.counts("0").total == 3
