"""Monitors: mistakes are said clearly, and a training never ends for a chart."""

import warnings
from contextlib import suppress

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import hooks_of
from tests.support.training_loops import batch, network


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"every_n_steps": 0}, ValueError, "every_n_steps must be greater than 0"),
        ({"every_n_steps": 1.5}, TypeError, "every_n_steps must be an integer"),
        ({"states_per_step": 0}, ValueError, "states_per_step must be greater than 0"),
        ({"window": 0}, ValueError, "window must be greater than 0"),
        ({"phases": "train"}, ValueError, "phases must be of"),
        ({"phases": ("test",)}, ValueError, "phases must be of"),
        ({"groups": 1}, ValueError, "groups must be from 2"),
        ({"method": "beside"}, ValueError, "method must be one of"),
        ({"attach_to": "Conv2d"}, ts.errors.NoLayerMatches, "Conv2d"),
    ],
)
def test_bad_arguments(options, kind, message):
    model = network()
    with pytest.raises(kind, match=message):
        ts.StateMonitor(model, **options)
    assert hooks_of(model) == []


def test_steps_do_not_go_backwards():
    monitor = ts.StateMonitor(network())
    monitor.step(7)
    monitor.step(7)
    with pytest.raises(ValueError, match=r"must not go backwards: got 6 after 7\. load_state_dict"):
        monitor.step(6)
    with pytest.raises(TypeError, match="number must be an integer"):
        monitor.step("8")
    assert monitor.global_step == 7


@pytest.mark.parametrize("phase", ["", None, 3])
def test_a_phase_without_a_name(phase):
    monitor = ts.StateMonitor(network())
    with pytest.raises(TypeError, match="phase must be a non-empty str"), monitor.during(phase):
        pass


def test_names_that_are_not_there():
    model = network()
    monitor = ts.StateMonitor(model, "Linear")
    with pytest.raises(ts.errors.NothingCaptured, match="0_post_states: nothing captured in"):
        monitor.counts("0")
    model(batch(0))
    with pytest.raises(KeyError, match="no states of '1'"):
        monitor.counts("1")
    with pytest.raises(ts.errors.RowsNotKept, match="groups=32 keeps them"):
        monitor.grouped("0")


def test_a_model_that_is_replaced_gives_one_warning():
    model = network()
    monitor = ts.StateMonitor(model, every_n_steps=1)
    model(batch(0))
    monitor.step()
    replacement = network()
    replacement(batch(1))
    with pytest.warns(UserWarning, match="ran. A model that has been replaced needs a new monitor"):
        monitor.step()
    replacement(batch(2))
    monitor.step()
    assert monitor.counts("0").total == 8


def test_a_model_that_is_gone_gives_one_warning():
    monitor = ts.StateMonitor(network(), every_n_steps=1)
    with pytest.warns(UserWarning, match="its model no longer exists"):
        monitor.step()
    monitor.step()
    with monitor.during("test"), monitor.paused():
        pass
    assert monitor.scalars() == {}
    monitor.remove()


def test_steps_in_a_pause_and_between_samples_are_no_mistake():
    monitor = ts.StateMonitor(model := network(), every_n_steps=2)
    with monitor.paused():
        monitor.step()
        monitor.step()
    model(batch(0))
    monitor.step()
    monitor.step()
    monitor.remove()
    monitor.step()
    monitor.step()
    assert monitor.global_step == 6


def test_a_reset_within_a_step_makes_room_again():
    monitor = ts.StateMonitor(model := network(), "0", every_n_steps=1, states_per_step=12)
    model(batch(0))
    model(batch(1))
    monitor.reset()
    model(batch(2))
    model(batch(3))
    assert (monitor.counts("0").total, monitor.passed_over("0")) == (12, 4)


def test_a_reset_by_another_thread_between_the_rows_of_a_batch():
    """What was passed over of them is deleted as well: the training does not fail for it."""
    monitor = ts.StateMonitor(model := network(), "0", every_n_steps=1, states_per_step=3)
    model(batch(0))
    monitor.reset()
    monitor._sampler.pass_over("0_post_states", 5)
    model(batch(1))
    assert (monitor.counts("0").total, monitor.passed_over("0")) == (3, 5)


class Failing(nn.Module):
    """Fails between its layers, as where memory is short."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.fails = False

    def forward(self, x):
        x = self.first(x)
        if self.fails:
            raise MemoryError
        return self.second(x)


@pytest.mark.parametrize("stage_rows", [None, 100])
def test_a_pass_that_fails_in_a_captured_step_is_said_once(stage_rows):
    monitor = ts.StateMonitor(
        model := Failing(), "Linear", every_n_steps=2, stage_rows=stage_rows, phases=("train",)
    )
    said = []
    for step in range(7):
        model(batch(step))
        model.fails = step in (1, 2, 4)  # step 1 is not captured
        with suppress(MemoryError):
            model(batch(step))
        model.fails = False
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            monitor.step()
        said += [(step, str(each.message)) for each in found]
    [(step, message)] = said
    assert step == 2
    assert message.startswith("a forward pass of a captured step has failed: the StateMonitor")
    assert monitor.counts("first").total == monitor.counts("second").total + 2 * 8


def test_the_number_of_neurons_changes():
    class Growing(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(x)

    model = Growing()
    ts.StateMonitor(model, "act", neuron_axis=-1)
    model(torch.ones(3, 4))
    with pytest.raises(ValueError, match="act_post_states: a batch has 5 neurons, earlier ones 4"):
        model(torch.ones(3, 5))


# ---- sinks -------------------------------------------------------------------------------------


class Writer:
    def __init__(self):
        self.seen = {}

    def add_scalar(self, tag, scalar_value, global_step=None):
        self.seen[tag] = scalar_value, global_step


class Logger:
    def log_metrics(self, metrics, step=None):
        self.seen = {name: (value, step) for name, value in metrics.items()}


class WandbRun:
    def log(self, data, step=None):
        self.seen = {name: (value, step) for name, value in data.items()}


class Function:
    def __call__(self, scalars, step):
        self.seen = {name: (value, step) for name, value in scalars.items()}


@pytest.mark.parametrize(
    "sink", [Writer(), Logger(), WandbRun(), Function()], ids=lambda s: type(s).__name__
)
def test_sinks(sink):
    model = network()
    monitor = ts.StateMonitor(model, every_n_steps=1)
    model(batch(0))
    monitor.step()
    monitor.log(sink)
    assert sink.seen == {name: (value, 1) for name, value in monitor.scalars().items()}
    assert "train/efficiency" in sink.seen


def test_a_sink_that_raises_gives_one_warning():
    def full(scalars, step):
        raise OSError("no space left on device")

    model = network()
    monitor = ts.StateMonitor(model, every_n_steps=1)
    model(batch(0))
    with pytest.warns(ts.errors.SinkFailedWarning, match="raised OSError: no space left"):
        monitor.log(full)
    monitor.log(full)
    monitor.log(other := Function())
    assert other.seen
    with pytest.warns(ts.errors.SinkFailedWarning, match="ZeroDivisionError"):  # another sink
        monitor.log(lambda scalars, step: 1 / 0)


def test_something_that_takes_no_scalars():
    with pytest.raises(TypeError, match="sink must have add_scalar, log_metrics, log, or be"):
        ts.StateMonitor(network()).log("runs/1")


@pytest.mark.long  # it imports TensorFlow
def test_tensorboard_takes_them(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    model = network()
    monitor = ts.StateMonitor(model, every_n_steps=1)
    model(batch(0))
    with SummaryWriter(tmp_path) as writer:
        monitor.log(writer)
    (file,) = tmp_path.glob("events*")
    assert b"train/efficiency" in file.read_bytes()


def test_a_layer_that_is_replaced(recwarn):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
    monitor = ts.StateMonitor(model, "Linear", every_n_steps=1)

    def step():
        model(torch.ones(3, 4))
        monitor.step()

    step()
    model[1] = nn.Sequential(nn.ReLU(), nn.Identity())  # it is not captured
    step()
    assert not recwarn
    model[2] = nn.Linear(8, 4)
    step()
    step()
    (told,) = recwarn
    assert str(told.message).startswith("the StateMonitor captures no more of 2_post_states: ")
    assert monitor.counts("0").total == 12
    assert monitor.counts("2").total == 6
