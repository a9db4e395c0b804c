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


class Taken(nn.Module):
    """Takes a part of a dictionary."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def forward(self, parts):
        return parts[self.name]


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


class Named(torch.utils.data.Dataset):
    """Inputs and their names."""

    def __len__(self):
        return 5

    def __getitem__(self, number):
        return images(6, seed=number), f"input {number}"


@pytest.mark.parametrize("method", ["forward", "training_step"])
def test_a_batch_of_inputs_and_names(method):
    model = Module(LINEAR)
    with ts.capture(model, "layer") as run:
        for batch in DataLoader(Named(), batch_size=2):
            assert [type(part) for part in batch] == [torch.Tensor, tuple]
            model(batch) if method == "forward" else model.training_step(batch, 0)
    assert run.instance_count == 5
    assert run["layer"].states_per_instance() == 1


class InDictionaries(Named):
    """Inputs with a name for each part, and their classes."""

    def __getitem__(self, number):
        return {"text": f"input {number}", "numbers": images(6, seed=number)}, number % 2


@pytest.mark.parametrize("method", ["forward", "training_step"])
@pytest.mark.parametrize("has_labels", [False, True])
def test_a_batch_of_dictionaries_and_classes(method, has_labels):
    model = Module(nn.Sequential(Taken("numbers"), LINEAR))
    with ts.capture(model, "Linear") as run:
        for batch in DataLoader(InDictionaries(), batch_size=2):
            assert [type(part) for part in batch] == [dict, torch.Tensor]
            if has_labels:
                run.labels(batch[1])
            model(batch) if method == "forward" else model.training_step(batch, 0)
    assert run.instance_count == 5
    if has_labels:
        assert {label: part.total for label, part in run[0].counts_by().items()} == {0: 3, 1: 2}


def test_labels_tell_that_two_views_are_a_batch():
    model, views = Module(LINEAR), [images(5, 6), images(5, 6, seed=1)]
    with ts.capture(model, "layer") as run:
        run.labels(range(5))
        model(views)
    assert run.instance_count == 5


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("shape", [(5, 3, 8, 6), (5, 6)])
def test_labels_tell_that_videos_or_sequences_are_inputs(shape, count):
    model = Joined(LINEAR)
    with ts.capture(model, "layer") as run:
        run.labels(range(count))
        model([images(*shape, seed=seed) for seed in range(count)])
    assert run.instance_count == count
    assert len(run["layer"].counts_by()) == count


@pytest.mark.parametrize("shape", [(3, 8, 8), (6,)])
def test_what_is_stacked_are_inputs(shape):
    model = Joined(CONV if len(shape) == 3 else LINEAR)
    with ts.capture(model, "layer") as run:
        run.labels(range(4))
        model([images(*shape, seed=seed) for seed in range(4)])
    assert run.instance_count == 4
    assert len(run["layer"].counts_by()) == 4


@pytest.mark.parametrize("count", [1, 2])
def test_sequences_that_are_not_joined_are_no_inputs(count):
    """Two batches of sequences, or one, look like the images of a detector."""
    model = Module(LINEAR)
    with ts.capture(model, "layer") as run:
        for _ in range(2):
            model([images(5, 7, 6)] * count)
    assert run["layer"].state_count == 2 * 5 * 7
    with pytest.raises(ts.errors.InputsUnknown):
        run["layer"].instance_count  # noqa: B018


def test_images_in_a_list_are_counted_without_labels():
    model = Joined(CONV)
    with ts.capture(model, "layer") as run:
        for size in (4, 3, 1):
            model([images(3, 8, 8, seed=seed) for seed in range(size)])
    assert run.instance_count == 8
