"""States for checkpoints in which something is missing, or is something else, are refused."""

import copy

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import images
from tests.support.training_loops import network, train

MISSING = object()
WRONG = [MISSING, None, b"x", 1.5, torch.tensor([1.5]), torch.ones(1, 1, 2)]
OPTIONAL = [("histograms",), ("previous_step",)]  # older states have none


def places(state, place=()):
    """The places of all parts and values of a state."""
    parts = state.items() if isinstance(state, dict) else enumerate(state)
    for name, value in parts:
        yield (*place, name)
        if isinstance(value, dict | list):
            yield from places(value, (*place, name))


def damaged(state, place, wrong):
    """A copy of a state, with a wrong value at a place."""
    twin = part = copy.deepcopy(state)
    for name in place[:-1]:
        part = part[name]
    if wrong is MISSING:
        del part[place[-1]]
    else:
        part[place[-1]] = wrong
    return twin


def check_all_are_refused(target, state, read):
    before, refused = read(target), 0
    for place in places(state):
        for wrong in WRONG:
            if wrong is MISSING and (isinstance(place[-1], int) or place in OPTIONAL):
                continue
            with pytest.raises((TypeError, ValueError), match=r"state|format"):
                target.load_state_dict(damaged(state, place, wrong))
            refused += 1
    assert read(target) == before
    assert refused > 100


def test_of_a_monitor():
    model = network()
    monitor = ts.StateMonitor(model, "Linear", every_n_steps=1, window=2, groups=4)
    train(model, range(3), monitor)
    check_all_are_refused(monitor, monitor.state_dict(), lambda own: repr(own.state_dict()))


def test_of_a_capture_point():
    model = nn.Linear(6, 5)
    with ts.capture(model, keep="counts", groups=4) as run:
        for labels in (None, [0, 1, 2], ["x", "y", "x"]):
            if labels is not None:
                run.labels(labels)
            model(images(3, 6))
    check_all_are_refused(run[0], run[0].state_dict(), lambda own: repr(own.state_dict()))


def test_counts_that_are_not_those_of_the_rows():
    """Each number is valid by itself."""
    with ts.capture(model := nn.Linear(6, 5), keep="counts") as run:
        model(images(9, 6))
    state = run[0].state_dict()
    state["counts"][0]["batches"] = torch.tensor([[8, 1]])
    with pytest.raises(ValueError, match="has 9 rows of 8"):
        run[0].load_state_dict(state)


def test_steps_that_are_not_those_of_the_counts():
    model = network()
    monitor = ts.StateMonitor(model, "0", every_n_steps=1, window=2)
    train(model, range(2), monitor)
    for name, numbers, message in (
        ("sizes", [3, 2], "not as many states as its sizes say"),
        ("steps", [0], "not the counts of each step"),
    ):
        state = monitor.state_dict()
        state["counts"]["train"]["0_post_states"][name] = torch.tensor(numbers)
        with pytest.raises(ValueError, match=message):
            monitor.load_state_dict(state)
