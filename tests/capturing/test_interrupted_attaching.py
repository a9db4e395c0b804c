"""Ctrl-C while hooks are put on a model or taken off it: afterwards it has all of them, or none."""

import signal

import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.pytorch.hooks import StateCaptureHook
from tensorstate_gpu.bridges.pytorch.sampled_stages import SampledStagedHook

LAYERS = 3


@pytest.fixture
def model():
    return torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(LAYERS)))


@pytest.fixture
def interrupt(monkeypatch):
    """Returns a function: the first call of a method of hooks is followed by Ctrl-C, once."""

    def prepare(name, kind=StateCaptureHook):
        method = getattr(kind, name)

        def interrupted(self, *args, **kwargs):
            result = method(self, *args, **kwargs)
            monkeypatch.undo()
            signal.raise_signal(signal.SIGINT)
            return result

        monkeypatch.setattr(kind, name, interrupted)

    return prepare


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def assert_bare(model):
    assert hooks_of(model) == 0
    assert type(model[0]) is torch.nn.Linear


def capturing(model, path):
    with ts.capture(model, "Linear", storage_path=path):
        model(torch.ones(2, 4))


def attached_for_a_while(model, path):
    ts.build_efficiency_model(model, "Linear", storage_path=path)
    model(torch.ones(2, 4))
    ts.remove_state_layers(model)


@pytest.mark.parametrize("run_model", [capturing, attached_for_a_while])
def test_a_store_is_committed_and_closed_when_the_hooks_are_off(
    run_model, model, interrupt, tmp_path
):
    interrupt("detach")
    with pytest.raises(KeyboardInterrupt):
        run_model(model, tmp_path / "run.zarr")
    store = ts.Store(tmp_path / "run.zarr", "a")
    assert [store[layer].state_count for layer in store] == [2] * LAYERS
    store.close()


@pytest.mark.parametrize("during", ["attach", "detach"])
def test_capture(during, model, interrupt):
    interrupt(during)
    with pytest.raises(KeyboardInterrupt), ts.capture(model, "Linear"):
        model(torch.ones(2, 4))
    assert_bare(model)


def test_a_store_is_free_again(model, interrupt, tmp_path):
    interrupt("attach")
    path = tmp_path / "run.zarr"
    with pytest.raises(KeyboardInterrupt), ts.capture(model, "Linear", storage_path=path):
        pass
    with ts.capture(model, "Linear", storage_path=path) as run:
        model(torch.ones(2, 4))
    assert run.instance_count == 2


def test_a_model_with_capture_points(model, interrupt):
    interrupt("attach")
    with pytest.raises(KeyboardInterrupt):
        ts.build_efficiency_model(model, "Linear")
    model(torch.ones(2, 4))
    assert [point.state_count for point in model.efficiency_layers] == [2] * LAYERS
    interrupt("detach")
    with pytest.raises(KeyboardInterrupt):
        ts.remove_state_layers(model)
    assert_bare(model)


def monitored(model):
    """A monitor of a model that has run."""
    monitor = ts.StateMonitor(model, "Linear", every_n_steps=2)
    model(torch.ones(2, 4))
    return monitor


def test_a_monitor_begins_to_capture(model, interrupt):
    monitor = monitored(model)
    monitor.step()
    interrupt("rejoin")
    with pytest.raises(KeyboardInterrupt):
        monitor.step()
    model(torch.ones(2, 4))
    assert [monitor.counts(str(number)).total for number in range(LAYERS)] == [4] * LAYERS


def test_a_monitor_ends_to_capture(model, interrupt):
    monitor = monitored(model)
    interrupt("remove")
    with pytest.raises(KeyboardInterrupt):
        monitor.step()
    interrupted = hooks_of(model)
    monitor.step()
    model(torch.ones(2, 4))
    assert hooks_of(model) > interrupted
    monitor.step()
    assert hooks_of(model) == interrupted


def test_stages_of_a_monitor_begin_to_take_batches(model, interrupt):
    monitor = ts.StateMonitor(model, "Linear", every_n_steps=2, stage_rows=8)
    model(torch.ones(2, 4))
    monitor.step()
    interrupt("want", SampledStagedHook)
    with pytest.raises(KeyboardInterrupt):
        monitor.step()
    model(torch.ones(2, 4))
    monitor.step()
    assert [monitor.counts(str(number)).total for number in range(LAYERS)] == [4] * LAYERS


def test_stages_of_a_monitor_begin_to_take_batches_in_a_pass(model, interrupt):
    monitor = ts.StateMonitor(model, "Linear", every_n_steps=2, stage_rows=8)
    model(torch.ones(2, 4))
    monitor.step()
    model.eval()
    interrupt("want", SampledStagedHook)
    with pytest.raises(KeyboardInterrupt):
        model(torch.ones(2, 4))
    model(torch.ones(3, 4))
    totals = [monitor.counts(str(number), phase="eval").total for number in range(LAYERS)]
    assert totals == [3] * LAYERS
