"""Trainers whose numbers of steps grow by more than one, such as those with several optimizers."""

import pytest
import torch

import tensorstate_gpu as ts
from tests.support.training_loops import batch, network, states_of


def captured(monitor, model, numbers):
    """The numbers of steps of which a monitor captures the passes; the first begins now."""
    found = []
    for number, following in zip(numbers, [*numbers[1:], None], strict=True):
        before = monitor.counts("0").total if found else 0
        with torch.no_grad():
            model(batch(number))
        if monitor.is_capturing and monitor.counts("0").total > before:
            found.append(number)
        if following is not None:
            monitor.step(following)
    return found


@pytest.mark.parametrize(
    ("numbers", "every", "due"),
    [
        (range(0, 30, 2), 3, [0, 4, 6, 10, 12, 16, 18, 22, 24, 28]),
        ([0, *range(1, 40, 2)], 10, [0, 11, 21, 31]),  # no number of these is a multiple of 10
        (range(0, 40, 7), 2, [0, 7, 14, 21, 28, 35]),
        (range(12), 4, [0, 4, 8]),
    ],
)
def test_the_first_step_after_each_multiple_is_captured(numbers, every, due):
    model = network()
    monitor = ts.StateMonitor(model, "Linear", every_n_steps=every)
    assert captured(monitor, model, [*numbers]) == due


def test_it_is_so_after_a_checkpoint():
    model = network()
    earlier, later = (ts.StateMonitor(model, "Linear", every_n_steps=10) for _ in range(2))
    assert captured(earlier, model, [0, 5, 9]) == [0]
    earlier.step(12)
    later.load_state_dict(earlier.state_dict())
    with torch.no_grad():
        model(batch(12))
    assert later.counts("0") == states_of(model, batch(0), batch(12))


def test_a_rank_that_begins_late_captures_what_the_others_do():
    """Its first steps were those of ranks that are gone: no step of its own was passed over."""
    model = network()
    monitor = ts.StateMonitor(model, "Linear", every_n_steps=10)
    monitor.step(23)
    assert not monitor.is_capturing
    assert captured(monitor, model, [*range(23, 33)]) == [30]
