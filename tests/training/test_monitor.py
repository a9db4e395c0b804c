"""StateMonitor: which steps, passes and phases it captures."""

import gc
import weakref

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import capture_hooks_of, hooks_of, images
from tests.support.training_loops import batch, network, states_of, train


def frozen_network():
    """A network that a step does not change, so that counts can be compared."""
    model = network()
    for weight in model.parameters():
        weight.requires_grad_(False)
    return model


def run_steps(model, monitor, steps):
    for step in steps:
        model(batch(step))
        monitor.step()


def test_every_nth_step_is_captured():
    model = frozen_network()
    monitor = ts.StateMonitor(model, "Linear", every_n_steps=3)
    run_steps(model, monitor, range(8))
    monitor.remove()
    assert monitor.global_step == 8
    assert monitor.counts("0") == states_of(model, batch(0), batch(3), batch(6))


@pytest.mark.parametrize("groups", [None, 32])
def test_a_report_of_a_phase(groups):
    model = network()
    monitor = ts.StateMonitor(model, "Linear", every_n_steps=2, groups=groups)
    with pytest.raises(ts.errors.NothingCaptured, match="monitor: nothing captured in the phase"):
        monitor.report()
    with pytest.raises(ValueError, match="accuracy must be from 0 to 1, got 97"):
        monitor.report(accuracy=97)
    run_steps(model, monitor, range(4))
    model.eval()
    model(batch(9))
    monitor.remove()
    scalars = monitor.scalars()
    for phase in ("train", "eval"):
        report = monitor.report(phase, accuracy=0.5)
        assert report.network_efficiency == pytest.approx(scalars[f"{phase}/efficiency"])
        first = report["0"]
        assert (first.states, first.axis) == (monitor.counts("0", phase).total, 1)
        assert first.efficiency == pytest.approx(scalars[f"{phase}/efficiency/0"])
        assert (first.lower is None, report.network_range is None) == (groups is None,) * 2
        assert report.aiq is not None
        assert len(report.neurons_to_pandas()) == sum(each.neurons for each in report.layers)
        assert report.origin["phase of training"] == phase


class Shuffled(nn.Module):
    """A network that loses track of its inputs after the first layer."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.second(self.first(x)[torch.randperm(len(x))])


def test_a_report_of_layers_whose_inputs_are_unknown():
    model = Shuffled()
    monitor = ts.StateMonitor(model, "Linear", every_n_steps=1, groups=4)
    for step in range(2):
        model(images(40, 6, seed=step))
        monitor.step()
    report = monitor.report()
    assert report["first"].lower is not None
    assert report["second"].lower is None
    assert report["second"].states == monitor.counts("second").total == 80


def test_a_training_is_not_disturbed():
    plain, watched = network(), network()
    train(plain, range(10))
    train(watched, range(10), ts.StateMonitor(watched, "*", every_n_steps=2))
    for one, other in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one, other)


def test_all_micro_batches_of_a_step_are_captured():
    model = frozen_network()
    monitor = ts.StateMonitor(model, "0", every_n_steps=2)
    for step in range(4):
        for part in range(3):
            model(batch(10 * step + part))
        monitor.step()
    monitor.remove()
    parts = [batch(10 * step + part) for step in (0, 2) for part in range(3)]
    assert monitor.counts("0") == states_of(model, *parts)


def test_between_captured_steps_nothing_is_attached():
    model = network()
    monitor = ts.StateMonitor(model, "*", every_n_steps=2)
    assert len(capture_hooks_of(model)) == 3
    model(batch(0))
    monitor.step()
    assert capture_hooks_of(model) == []
    assert len(hooks_of(model)) == 1  # which asks, when a pass begins
    assert type(model[0]) is nn.Linear
    model(batch(1))
    monitor.step()
    assert len(capture_hooks_of(model)) == 3
    monitor.remove()
    assert hooks_of(model) == []
    assert type(model) is nn.Sequential


def test_axes_are_followed_once_however_often_hooks_leave():
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU())
    monitor = ts.StateMonitor(model, "*", every_n_steps=2)
    for _ in range(9):
        model(images(2, 3, 8, 8))
        monitor.step()
    followed = monitor._switch._passes._kinds._followed
    assert list(followed.values()) == [1]
    assert monitor.counts("1").neurons == 5


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.norm, self.head = nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Linear(12, 2)

    def forward(self, x):
        return self.head(self.norm(self.hidden(x)).relu())


def test_the_phase_is_the_mode_of_the_whole_model():
    model = Normed().train()
    model.norm.eval()  # frozen
    monitor = ts.StateMonitor(model, ["hidden", "norm"], every_n_steps=2)
    for step in range(2):
        model(batch(step))
        monitor.step()
    model.eval()
    model.norm.train()
    model(batch(7, inputs=5))
    assert monitor.counts("norm").total == 8
    assert monitor.counts("norm", "eval").total == 5
    assert {name.partition("/")[0] for name in monitor.scalars()} == {"train", "eval"}


@pytest.mark.parametrize("steps", [1, 2])
def test_an_evaluation_is_noticed_between_captured_steps_too(steps):
    model = frozen_network()
    monitor = ts.StateMonitor(model, "0", every_n_steps=2)
    run_steps(model, monitor, range(steps))
    model.eval()
    model(batch(10))
    model(batch(11))
    model.train()
    run_steps(model, monitor, range(steps, 4))
    monitor.remove()
    assert monitor.counts("0") == states_of(model, batch(0), batch(2))
    assert monitor.counts("0", "eval") == states_of(model, batch(10), batch(11))


def test_an_evaluation_through_a_part_of_the_model():
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = network()

        def training_step(self, x):
            return self.net(x)

    model = Whole()
    monitor = ts.StateMonitor(model, "net.0", every_n_steps=2)
    for step in range(4):
        model.training_step(batch(step))
        monitor.step()
        model.eval().training_step(batch(step, inputs=3))
        model.train()
    assert monitor.counts("net.0").total == 16
    assert monitor.counts("net.0", "eval").total == 12


def test_phases_that_are_not_asked_for():
    model = network()
    monitor = ts.StateMonitor(model, "0", phases=("train",), every_n_steps=1)
    model(batch(0))
    model.eval()(batch(1))
    with monitor.during("test"):
        model(batch(2))
    assert [*monitor._sampler.windows] == ["train", "test"]


def test_during_and_paused():
    model = network()
    monitor = ts.StateMonitor(model, "0", every_n_steps=4)
    run_steps(model, monitor, range(2))
    with monitor.during("test"):
        model(batch(0, inputs=3))
        with monitor.paused():
            model(batch(0, inputs=5))
        with monitor.during("noise"):
            model(batch(0, inputs=2))
        model(batch(0, inputs=1))
    model(batch(2))
    assert capture_hooks_of(model) == []
    assert monitor.counts("0", "test").total == 4
    assert monitor.counts("0", "noise").total == 2
    assert monitor.counts("0").total == 8


def test_a_pause_ends_with_an_error_in_its_block():
    model = network()
    monitor = ts.StateMonitor(model, "0")
    with pytest.raises(RuntimeError), monitor.paused():
        raise RuntimeError
    model(batch(0))
    assert monitor.counts("0").total == 8


@pytest.mark.parametrize("window", [1, 3])
def test_a_window_holds_exactly_the_last_captured_steps(window):
    model = frozen_network()
    monitor = ts.StateMonitor(model, "0", every_n_steps=2, window=window)
    for step in range(9):
        model(batch(step))
        model(batch(100 + step))
        captured = list(range(0, step + 1, 2))[-window:]
        with monitor.paused():
            expected = states_of(model, *(batch(n + each) for each in captured for n in (0, 100)))
        assert monitor.counts("0") == expected
        monitor.step()


def test_a_window_of_an_evaluation_holds_its_last_passes():
    model = network().eval()
    monitor = ts.StateMonitor(model, "0", window=2)
    for inputs in (8, 4, 2):
        model(batch(0, inputs))
    assert monitor.counts("0", "eval").total == 6


def test_reset_of_one_phase_and_of_all():
    model = network()
    monitor = ts.StateMonitor(model, "0")
    model(batch(0))
    model.eval()(batch(1))
    monitor.reset("eval")
    assert monitor.counts("0").total == 8
    with pytest.raises(ts.errors.NothingCaptured, match="'eval'"):
        monitor.counts("0", "eval")
    monitor.reset()
    assert monitor.scalars() == {}


def test_two_monitors_of_one_model_are_independent():
    model = network()
    first = ts.StateMonitor(model, "0", every_n_steps=2)
    second = ts.StateMonitor(model, "*", every_n_steps=3)
    for step in range(12):
        model(batch(step))
        first.step()
        if step == 6:
            second.remove()
        else:
            second.step()
    assert first.counts("0").total == 6 * 8
    assert second.counts("0").total == 3 * 8  # steps 0, 3 and 6
    first.remove()
    assert hooks_of(model) == []


def test_a_layer_that_is_called_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.act, self.head = nn.ReLU(), nn.Linear(6, 6)

        def forward(self, x):
            return self.act(self.head(self.act(x)))

    model = Twice()
    monitor = ts.StateMonitor(model, ["act", "head"], every_n_steps=1)
    for step in range(3):
        model(batch(step))
        monitor.step()
    assert monitor.counts("act:2").total == 24
    assert {"train/efficiency/act", "train/efficiency/act:2"} <= monitor.scalars().keys()


def test_scalars_are_the_measures_of_the_counts():
    model = network()
    with torch.no_grad():
        model[2].bias[1] = -9  # a neuron that never fires
    monitor = ts.StateMonitor(model, "Linear", method="both")
    model(images(40, 6))
    scalars = monitor.scalars()
    counts = monitor.counts("2_post_states")
    assert scalars["train/efficiency/2_post"] == counts.efficiency()
    assert scalars["train/entropy/2_post"] == counts.entropy()
    assert scalars["train/ceiling/2_post"] == ts.information.ceiling(40, 4)
    assert scalars["train/coverage/2_post"] == ts.information.coverage(counts)
    assert scalars["train/dead_share/2_post"] == len(ts.neurons.dead(counts)) / 4 == 0.25
    names = [f"{layer}_{place}_states" for layer in (0, 2) for place in ("pre", "post")]
    layers = [monitor.counts(name).efficiency() for name in names]
    assert scalars["train/efficiency"] == ts.network_efficiency(layers)


def test_a_layer_with_two_names_answers_to_both():
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    model.append(model[0])
    monitor = ts.StateMonitor(model, "Linear")
    model(batch(0))
    assert monitor.counts("2") == monitor.counts("0")


def test_captures_appear_in_a_profile():
    model = network()
    ts.StateMonitor(model, "0")
    with torch.profiler.profile() as profile:
        model(batch(0))
    assert "tensorstate_gpu::0_post_states" in {event.name for event in profile.events()}


def test_groups_of_inputs():
    model = frozen_network()
    windowed = ts.StateMonitor(model, "0", every_n_steps=1, groups=4, window=2)
    whole = ts.StateMonitor(model, "0", every_n_steps=1, groups=4)
    with ts.capture(model, "0", keep="counts", groups=4) as run:
        for step in range(3):
            model(batch(step))
            windowed.step()
            whole.step()
    assert whole.grouped("0") == run[0].grouped()
    last = windowed.grouped("0")
    assert last.together() == windowed.counts("0")
    # Inputs are numbered through all steps: those of the window are 8 to 23.
    every = whole.grouped("0").sample.fingerprint
    with ts.capture(model, "0", keep="counts", groups=4) as run:
        model(batch(0))
    first = run[0].grouped().sample.fingerprint
    assert last.sample.fingerprint == (every - first) % 2**64


@torch.no_grad()
def test_the_number_of_the_same_step_begins_none():
    """A trainer says it after each micro-batch: all of them share what is asked for."""
    monitor = ts.StateMonitor(model := network(), every_n_steps=1, states_per_step=12)
    for _ in range(3):
        model(batch(0))
        monitor.step(0)
    assert monitor.counts("0").total == 12
    assert monitor.passed_over("0") == 12


@torch.no_grad()
def test_an_evaluation_has_room_of_its_own():
    """Each of its passes, whatever the step has captured in training."""
    monitor = ts.StateMonitor(model := network(), every_n_steps=1, states_per_step=6)
    model(batch(0))
    with monitor.during("test"):
        model(batch(1))
        model(batch(2))
    assert monitor.counts("0").total == 6
    assert monitor.counts("0", "test").total == 2 * 6


def test_the_tensors_of_a_pass_that_is_not_captured_are_not_kept():
    """The pass begins while the model still has its capture points."""
    model = frozen_network()
    monitor = ts.StateMonitor(model, "Linear", phases=("train",))
    model(batch(0))
    x = batch(1)
    kept = weakref.ref(x)
    model.eval()(x)
    del x
    gc.collect()
    assert kept() is None
    assert monitor.counts("0") == states_of(model, batch(0))
