"""MonitorOfTrainer: what callbacks of PyTorch trainers have in common."""

import pytest
import torch

from tensorstate_gpu.training.epochs import MonitorOfTrainer
from tests.support.torch_models import hooks_of
from tests.support.training_loops import batch, network


def new_own(**options):
    own = MonitorOfTrainer("Linear", (), **options)
    model = network()
    own.begin(model)
    own.begin_epoch(0)
    return own, model


def train(own, model, steps):
    due = []
    for number in steps:
        model(batch(number))
        due.append(own.step(number + 1))
    return due


def total(own):
    return own.monitor.counts("0").total


@pytest.mark.parametrize(("window", "of_epochs"), [(None, 1), (9, 2)])
def test_counts_begin_anew_with_an_epoch_unless_there_is_a_window(window, of_epochs):
    own, model = new_own(every_n_steps=1, window=window)
    train(own, model, range(2))
    of_one = total(own)
    own.begin_epoch(1)
    train(own, model, range(2, 4))
    assert total(own) == of_epochs * of_one


def test_an_epoch_that_is_resumed_goes_on():
    own, model = new_own(every_n_steps=1)
    train(own, model, range(2))
    resumed = MonitorOfTrainer("Linear", (), every_n_steps=1)
    resumed.load_state_dict(own.state_dict())
    resumed.begin(model := network())
    resumed.begin_epoch(0)
    assert total(resumed) == total(own)
    resumed.begin_epoch(1)
    train(resumed, model, [2])
    assert 2 * total(resumed) == total(own)


def test_another_training_begins_anew():
    """A trainer that begins again counts its steps from 0, perhaps with the same model."""
    own, model = new_own(every_n_steps=1)
    train(own, model, range(3))
    own.begin_training(model, 0)
    own.begin_epoch(0)
    assert (own.monitor.global_step, own.monitor.scalars()) == (0, {})
    train(own, model, range(2))
    own.begin_training(model, 2)  # which goes on
    assert (own.monitor.global_step, total(own)) == (2, 16)
    own.end()
    assert hooks_of(model) == []


def test_only_captured_steps_are_due_for_a_log():
    own, model = new_own(every_n_steps=2)
    assert train(own, model, range(4)) == [True, False, True, False]


def test_a_micro_batch_that_ends_no_step_is_not_due():
    own, model = new_own(every_n_steps=1)
    with torch.no_grad():
        model(batch(0))
    assert [own.step(number) for number in (0, 0, 1)] == [False, False, True]


def test_another_model_takes_the_place_of_the_first():
    """Which has no hooks then. The counts go on."""
    own, first = new_own(every_n_steps=1)
    train(own, first, range(2))
    of_first, second = total(own), network()
    own.begin(second)
    assert hooks_of(first) == []
    assert total(own) == of_first
    own.end()
    assert hooks_of(second) == []
