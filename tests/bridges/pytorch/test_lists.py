"""Lists of tensors that a model is given: of inputs, or of the parts of a batch."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tensorstate_gpu as ts
from tests.support.torch_models import images

TARGETS = torch.arange(5) % 2


class Module(nn.Module):
    """A module with a step that is given what a DataLoader makes."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, batch):
        return self.layer(batch[0])

    def training_step(self, batch, number):
        return self.layer(batch[0]).sum()


class Joined(Module):
    def forward(self, listed):
        return self.layer(torch.stack(listed))


LINEAR, CONV = nn.Linear(6, 4), nn.Conv2d(3, 4, 3)
BATCHES = {
    "inputs and classes": (LINEAR, (images(5, 6), TARGETS)),
    "inputs and numbers": (LINEAR, (images(5, 6), images(5, 2))),
    "inputs": (LINEAR, (images(5, 6),)),
    "images": (CONV, (images(5, 3, 8, 8),)),
    "images and classes": (CONV, (images(5, 3, 8, 8), TARGETS)),
    "two views": (CONV, (images(5, 3, 8, 8), images(5, 3, 8, 8, seed=1))),
}


@pytest.mark.parametrize("has_labels", [False, True])
@pytest.mark.parametrize("method", ["forward", "training_step"])
@pytest.mark.parametrize("kind", BATCHES)
def test_what_a_loader_makes_is_a_batch(kind, method, has_labels):
    layer, data = BATCHES[kind]
    model = Module(layer)
    with ts.capture(model, "layer") as run:
        for batch in DataLoader(TensorDataset(*data), batch_size=2):
            assert isinstance(batch, list)
            if has_labels:
                run.labels(range(len(batch[0])))
            model(batch) if method == "forward" else model.training_step(batch, 0)
    assert run.instance_count == 5
    if has_labels:
        shares = {label: counts.total for label, counts in run["layer"].counts_by().items()}
        rows = run["layer"].state_count // 5
        assert shares == {0: 3 * rows, 1: 2 * rows}


def test_labels_tell_that_two_views_are_a_batch():
    model, views = Module(LINEAR), [images(5, 6), images(5, 6, seed=1)]
    with ts.capture(model, "layer") as run:
        run.labels(range(5))
        model(views)
    assert run.instance_count == 5


@pytest.mark.parametrize("shape", [(3, 8, 8), (6,)])
def test_what_is_stacked_are_inputs(shape):
    model = Joined(CONV if len(shape) == 3 else LINEAR)
    with ts.capture(model, "layer") as run:
        run.labels(range(4))
        model([images(*shape, seed=seed) for seed in range(4)])
    assert run.instance_count == 4
    assert len(run["layer"].counts_by()) == 4
