"""Mistakes with monitors of a training, and with what they say: the error comes at once."""

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu import reporting
from tensorstate_gpu.training.epochs import MonitorOfTrainer

# ---- callbacks: at once, and not when the training begins ---------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"attach_to": 5},
        {"exclude": [None]},
        {"attach_to": lambda layer: True},
        {"every_n_steps": 0},
        {"states_per_step": 1.5},
        {"window": "8"},
        {"phases": [["train"]]},
        {"phases": 5},
        {"groups": 1},
        {"stage_rows": 0},
        {"method": "beside"},
        {"threshold": "high"},
        {"firing": 5},
        {"neuron_axis": "first"},
        {"every_n_step": 5},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_is_wrong_with_a_callback_shows_when_it_is_made(options):
    (name,) = options
    given = {"attach_to": None, "exclude": (), **options}
    with pytest.raises((TypeError, ValueError), match=name):
        MonitorOfTrainer(**given)  # of EfficiencyMonitor and EfficiencyCallback


def test_layers_of_a_callback_from_a_generator():
    """Each training reads them, and goes on with the counts."""
    callback = MonitorOfTrainer((name for name in ["Linear"]), ())
    for total in (2, 4):
        model = torch.nn.Linear(2, 3)
        with callback.in_block(model) as monitor:
            model(torch.ones(2, 2))
            assert monitor.counts("Linear").total == total


# ---- phases of a training ----------------------------------------------------------------------


def test_a_misspelt_phase_gives_one_warning():
    monitor = ts.StateMonitor(torch.nn.Linear(2, 3))
    with pytest.warns(ts.errors.UnmatchedNameWarning, match="no phase 'training' so far; there"):
        monitor.reset("training")
    monitor.reset("training")  # told once
    with monitor.during("mine"):
        pass
    for known in ("train", "eval", "test", "mine"):
        monitor.reset(known)
        assert monitor.phase_scalars(known) == {}
    with pytest.warns(ts.errors.UnmatchedNameWarning, match="no phase 'Train' so far"):
        assert monitor.phase_scalars("Train") == {}


@pytest.mark.parametrize("given", [5, "", ["train"], np.array(["train", "eval"]), {}])
def test_a_phase_is_a_text(given):
    monitor = ts.StateMonitor(torch.nn.Linear(2, 3), "Linear")
    calls = [monitor.reset, monitor.phase_scalars, monitor.report]
    calls += [lambda phase: monitor.counts("Linear", phase)]
    for call in calls:
        with pytest.raises(TypeError, match="phase must be a non-empty str"):
            call(given)


# ---- drawings of a training -------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, 5, ["efficiency"], np.array(["efficiency", "entropy"])])
def test_what_is_drawn_of_a_training_is_a_text(given):
    log = {1: {"train/efficiency/a": 0.5}}
    for name in ("measure", "phase"):
        with pytest.raises(TypeError, match=f"{name} must be a str"):
            reporting.plot_training(log, **{name: given})


def test_the_scalars_of_one_step_are_no_log_of_a_training():
    with pytest.raises(TypeError, match="must be a mapping of step to scalars"):
        reporting.plot_training({"train/efficiency/a": 0.5, "train/efficiency": 0.5})


# ---- step() that is never called ---------------------------------------------------------------


@pytest.mark.parametrize("end", ["report", "remove", "log"])
def test_a_monitor_whose_step_is_never_called_says_what_it_leaves_out(end):
    model = torch.nn.Linear(2, 3)
    monitor = ts.StateMonitor(model, "Linear", states_per_step=4)
    for _ in range(3):
        model(torch.ones(4, 2))
    assert monitor.counts("Linear").total == 4
    call = {"log": lambda: monitor.log(lambda scalars, step: None)}.get(end)
    call = call or getattr(monitor, end)
    with pytest.warns(UserWarning, match=r"step\(\) of the StateMonitor has not been called"):
        call()
    call()  # told once


def test_so_does_one_that_goes_on_from_a_checkpoint():
    model = torch.nn.Linear(2, 3)
    monitor = ts.StateMonitor(model, "Linear", states_per_step=4, every_n_steps=1)
    model(torch.ones(4, 2))
    monitor.step()
    monitor.load_state_dict(monitor.state_dict())
    for _ in range(2):
        model(torch.ones(4, 2))
    with pytest.warns(UserWarning, match="has not been called"):
        monitor.remove()


@pytest.mark.parametrize("kind", ["one pass", "evaluation", "steps", "room", "all states"])
def test_nothing_is_said_where_nothing_is_left_out_for_that(kind):
    model = torch.nn.Linear(2, 3).train(kind != "evaluation")
    room = {"room": 100, "all states": None}.get(kind, 4)
    monitor = ts.StateMonitor(model, "Linear", states_per_step=room, every_n_steps=1)
    for _ in range(1 if kind == "one pass" else 3):
        model(torch.ones(5, 2))
        model(torch.ones(5, 2)) if kind == "steps" else None  # accumulated: documented
        monitor.step() if kind == "steps" else None
    monitor.report("eval" if kind == "evaluation" else "train")
    monitor.remove()


def test_what_reset_deletes_is_not_left_out():
    model = torch.nn.Linear(2, 3)
    monitor = ts.StateMonitor(model, "Linear", states_per_step=4)
    for _ in range(2):
        model(torch.ones(4, 2))
    monitor.reset()
    monitor.remove()
