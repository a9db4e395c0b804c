"""A small network in training, and what its layers really pass: for tests of monitors."""

import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import images


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4))


def batch(step, inputs=8):
    return images(inputs, 6, seed=step)


def train(model, steps, monitor=None, *, inputs=8):
    """Train for some steps, whose batches depend on their numbers alone."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in steps:
        model.train()
        optimizer.zero_grad()
        model(batch(step, inputs)).square().mean().backward()
        optimizer.step()
        if monitor is not None:
            monitor.step()


def states_of(model, *batches, layer="0"):
    """The histogram of a layer in passes with these batches."""
    with ts.capture(model, layer) as run, torch.no_grad():
        for x in batches:
            model(x)
    return run[0].histogram()
