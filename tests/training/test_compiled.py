"""Monitors of compiled models: the same counts, and evaluations that nothing tells of."""

import pytest
import torch

import tensorstate_gpu as ts
from tests.support.training_loops import batch, network, states_of

pytestmark = pytest.mark.usefixtures("nothing_compiled_before")


def graphs(counted):
    def backend(graph, inputs):
        counted.append(graph)
        return graph.forward

    return backend


@pytest.mark.parametrize("monitored", ["model", "compiled"])
def test_steps_of_a_compiled_model(monitored):
    model, made = network(), []
    compiled = torch.compile(model, backend=graphs(made))
    given = {"model": model, "compiled": compiled}[monitored]
    monitor = ts.StateMonitor(given, "*", every_n_steps=3)
    for step in range(10):
        compiled(batch(step))
        monitor.step()
        if step == 3:
            after_both = len(made)
    assert len(made) == after_both  # one with captures, one without; none more
    monitor.remove()
    expected = states_of(model, *(batch(step) for step in (0, 3, 6, 9)))
    assert monitor.counts("0") == expected


def test_an_evaluation_of_a_compiled_model_between_samples():
    model = network()
    compiled = torch.compile(model, backend="eager")
    monitor = ts.StateMonitor(model, "0", every_n_steps=4)
    for step in range(2):
        compiled(batch(step))
        monitor.step()
    with monitor.during("eval"):
        model.eval()
        compiled(batch(7))
        model.train()
    for step in range(2, 4):
        compiled(batch(step))
        monitor.step()
    assert monitor.counts("0", "eval").total == 8
    compiled(batch(4))
    monitor.step()
    model.eval()
    compiled(batch(8))
    model.train()
    compiled(batch(5))
    with pytest.warns(UserWarning, match=r'use `with monitor.during\("eval"\):`'):
        monitor.step()
    compiled(batch(6))
    monitor.step()


def test_an_evaluation_is_noticed_at_the_compiled_model_that_is_monitored():
    model = network()
    compiled = torch.compile(model, backend="eager")
    monitor = ts.StateMonitor(compiled, "0", every_n_steps=4)
    for step in range(2):
        compiled(batch(step))
        monitor.step()
    compiled.eval()
    compiled(batch(7))
    compiled.train()
    compiled(batch(2))
    monitor.step()
    assert monitor.counts("0", "eval").total == 8
    assert monitor.counts("0").total == 8


def test_a_checkpoint_of_a_captured_step_is_captured_in_compiled_code():
    model = network()
    compiled = torch.compile(model, backend="eager")
    monitor = ts.StateMonitor(model, "0", every_n_steps=2)
    compiled(batch(0))
    before = monitor.state_dict()
    monitor.step()
    compiled(batch(1))
    monitor.load_state_dict(before)  # in step 0 again
    compiled(batch(2))
    assert monitor.counts("0").total == 16
