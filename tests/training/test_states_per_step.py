"""states_per_step: which states of a step are taken, and what becomes of the others."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import tensorstate_gpu as ts
from tensorstate_gpu._capturing.sampling import sampled, spaced_rows, whole_inputs
from tensorstate_gpu._layers.batches import ragged, sizes_of
from tests.support.torch_models import expected_rows, images
from tests.support.training_loops import batch, network


def convolution():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 10, 3), nn.ReLU())  # 36 states of an image of 8 x 8


def counted(rows, neurons):
    return ts.count_states(rows, neurons=neurons)


def test_whole_inputs_are_taken_as_long_as_they_fit():
    model = convolution()
    monitor = ts.StateMonitor(model, "0", every_n_steps=1, states_per_step=100, window=1)
    for step in range(6):
        x = images(7, 3, 8, 8, seed=step)
        with monitor.paused():
            rows = expected_rows(model[0](x), 1)
        model(x)
        taken = monitor.counts("0")
        assert taken.total == 72
        runs = [counted(rows[36 * i : 36 * (i + 2)], 10) for i in range(6)]
        assert taken in runs
        assert monitor.passed_over("0") == 5 * 36
        monitor.step()


def test_other_steps_take_other_inputs():
    firsts = {whole_inputs([36] * 7, 100, step).start for step in range(0, 1500, 50)}
    assert firsts == set(range(6))


@pytest.mark.parametrize("room", range(1, 38))
def test_long_inputs_have_their_share_of_the_rows(room):
    """Whole inputs that fit would be the short ones: of texts, few long ones were taken."""
    sizes, taken = np.array([3, 9, 1, 1, 4, 20]), np.zeros(6)
    for step in range(2000):
        kept, batches = sampled(ragged(sizes.tolist()), room, step)
        own = np.add.reduceat(kept, np.cumsum(sizes) - sizes)
        assert kept.sum() == room
        assert sizes_of(batches).tolist() == own[own > 0].tolist()
        taken += own
    np.testing.assert_allclose(taken / taken.sum(), sizes / sizes.sum(), atol=0.02)


def test_inputs_that_no_row_was_taken_of_are_no_evidence():
    """Of 50 inputs of 36 rows, ten rows are of ten inputs."""
    model = convolution()
    monitor = ts.StateMonitor(model, "0", every_n_steps=1, states_per_step=10, groups=4)
    for _ in range(3):
        model(images(50, 3, 8, 8))
        monitor.step()
    found = monitor.grouped("0").estimate()
    assert (found.rows, found.instances) == (30, 30)


def test_rows_are_evenly_spaced_and_not_taken_twice():
    for rows, room in ((10, 3), (7, 7), (1000, 13), (5, 0)):
        for step in range(0, 500, 50):
            numbers = spaced_rows(rows, room, step)
            assert len({*numbers.tolist()}) == room
            assert np.all((numbers >= 0) & (numbers < rows))
            gaps = np.diff(numbers)
            assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_rows_of_inputs_that_are_too_large_are_spaced():
    model = convolution()
    monitor = ts.StateMonitor(model, "0", every_n_steps=1, states_per_step=20, groups=4)
    x = images(3, 3, 8, 8)
    with monitor.paused():
        rows = expected_rows(model[0](x), 1)
    model(x)
    numbers = spaced_rows(108, 20, 0)
    assert monitor.counts("0") == counted(rows[numbers], 10)
    assert monitor.passed_over("0") == 88
    # Each row has the group of its input.
    with ts.capture(model, "0", groups=4) as run:
        model(x)
    whole = run[0].grouped(4)
    for part, every in zip(monitor.grouped("0").parts, whole.parts, strict=True):
        assert part.total in {6, 7, 0, 13, 14}
        assert {*part.state_ids()} <= {*every.state_ids()}


def test_rows_of_no_known_input_are_spaced_too():
    class Shuffled(nn.Module):
        def __init__(self):
            super().__init__()
            self.expert = nn.Linear(6, 9)

        def forward(self, x):
            return self.expert(x[torch.randperm(len(x))])

    model = Shuffled()
    monitor = ts.StateMonitor(model, "expert", states_per_step=5, groups=4)
    model(batch(0))
    assert monitor.counts("expert").total == 5
    with pytest.raises(ts.errors.InputsUnknown):
        monitor.grouped("expert")


def test_the_states_of_a_step_not_of_a_pass():
    model = network()
    monitor = ts.StateMonitor(model, "0", every_n_steps=2, states_per_step=20)
    for _ in range(3):
        for part in range(4):
            model(batch(part))  # 8 states
        monitor.step()
    assert monitor.counts("0").total == 2 * 20
    assert monitor.passed_over("0") == 2 * 12


def test_each_pass_of_an_evaluation_is_a_step():
    model = network().eval()
    monitor = ts.StateMonitor(model, "0", states_per_step=5)
    for part in range(3):
        model(batch(part))
    assert monitor.counts("0", "eval").total == 15
    assert monitor.passed_over("0", "eval") == 9


def test_none_takes_all():
    model = network()
    monitor = ts.StateMonitor(model, "0", states_per_step=None)
    model(batch(0, inputs=5000))
    assert monitor.counts("0").total == 5000


def test_two_monitors_take_the_same_at_the_same_step():
    """As ranks do that share a layer: it depends on the step and the size of the batch alone."""
    model = convolution()
    early = ts.StateMonitor(model, "0", every_n_steps=1, states_per_step=100, window=1)
    for step in range(3):
        model(images(7, 3, 8, 8, seed=step))
        early.step()
    late = ts.StateMonitor(model, "0", every_n_steps=1, states_per_step=100, window=1)
    late.step(3)
    model(images(7, 3, 8, 8, seed=9))
    assert early.counts("0") == late.counts("0")


def test_rows_of_packed_sequences():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(4, 9, batch_first=True)

        def forward(self, x):
            return self.rnn(pack_padded_sequence(x, [5, 3, 3, 1], batch_first=True))[0].data

    model = Tagger()
    for most, taken in ((12, 12), (7, 7), (2, 2)):
        monitor = ts.StateMonitor(model, "rnn", states_per_step=most)
        model(images(4, 5, 4))
        assert monitor.counts("rnn").total == taken
        monitor.remove()
