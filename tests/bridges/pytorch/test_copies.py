"""Copies and pickles of models while they are captured, and of what they captured."""

import copy
import gc
import multiprocessing
import subprocess
import sys
import weakref

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.copies import copies
from tests.support.torch_models import hooks_of


def network():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))


def images(count):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def users_hook(module, args, output):
    return None


ways = copies("deepcopy", "pickle", "torch.save")


def check_plain(twin, model, points):
    """A copy computes the same and captures nothing; it can be captured itself."""
    before = [point.state_count for point in points]
    expected = nn.Sequential.forward(model, images(5))  # without the hooks of the model itself
    inside = [point.state_count for point in points]
    assert torch.equal(twin(images(5)), expected)
    assert [point.state_count for point in points] == inside != before
    assert not any(isinstance(hook, ts.StateCaptureHook) for hook in hooks_of(twin))
    with ts.capture(twin, ["Conv2d", "Linear"], method="both") as run:
        twin(images(5))
    assert run["3_post_states"].state_count == 5


@ways
@pytest.mark.parametrize("where", [None, "run.zarr"])
def test_a_model_is_copied_while_it_is_captured(copied, where, tmp_path):
    model = network()
    model[1].register_forward_hook(users_hook)
    where = where and tmp_path / where
    with ts.capture(model, ["Conv2d", "Linear"], method="both", storage_path=where) as run:
        model(images(3))
        twin = copied(model)
        check_plain(twin, model, [run[name] for name in run])
    assert users_hook in hooks_of(twin)


@ways
def test_a_copy_of_an_efficiency_model_has_no_capture_points(copied):
    model = ts.build_efficiency_model(network(), ["Conv2d", "Linear"], method="both")
    model(images(3))
    twin = copied(model)
    check_plain(twin, model, model.efficiency_layers)
    assert twin.efficiency_layers == []
    with pytest.raises(ts.errors.NoCapturePoints):
        ts.report(twin)
    again = ts.build_efficiency_model(copied(twin), "Linear")
    again(images(2))
    assert [point.state_count for point in again.efficiency_layers] == [2]
    ts.remove_state_layers(again)


@ways
def test_a_hook_and_a_run_have_what_was_captured(copied):
    model = network()
    with ts.capture(model, ["Conv2d", "Linear"]) as run:
        model(images(3))
        inside = copied(run)
        model(images(3))
    for twin, count in ((inside, 3), (copied(run), 6)):
        assert [twin[name].instance_count for name in twin] == [count, count]
        assert [twin[name].axis for name in twin] == [1, 1]
        assert twin["0_post_states"].counts([0]).sum() == 36
    assert copied(run).report() == run.report()


@ways
def test_a_copied_hook_captures_nothing(copied):
    layer = nn.Linear(3, 2)
    hook = ts.StateCaptureHook("linear")
    layer.register_forward_hook(hook)
    layer(torch.ones(5, 3))
    twin = copied(layer)
    twin(torch.ones(7, 3))
    (theirs,) = hooks_of(twin)
    assert (hook.state_count, theirs.state_count) == (5, 5)
    empty = copied(ts.StateCaptureHook("linear"))
    empty(layer, (), torch.ones(5, 3))
    with pytest.raises(ts.errors.NothingCaptured, match="linear: nothing captured: it is a copy"):
        empty.entropy()


def test_copies_hold_no_rows():
    """What a teacher or a moving average of the weights would keep on and on."""
    model = network()
    with ts.capture(model, "Conv2d", keep="counts") as run:
        twin = copy.deepcopy(model)
        held = weakref.ref(run["0_post_states"])
        del run
    del model
    gc.collect()
    assert held() is None
    twin(images(3))


def test_a_saved_model_needs_no_tensorstate(tmp_path):
    model = network()
    with ts.capture(model, ["Conv2d", "Linear"], method="both"):
        torch.save(model, tmp_path / "model.pt")
    torch.save(ts.build_efficiency_model(model, "Linear"), tmp_path / "efficiency.pt")
    program = f"""
import sys, torch
sys.modules["tensorstate_gpu"] = None
for name in ("model", "efficiency"):
    model = torch.load(f"{tmp_path}/{{name}}.pt", weights_only=False)
    assert model(torch.ones(2, 1, 8, 8)).shape == (2, 10)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_copy_can_be_compiled():
    model = network()
    with ts.capture(model, ["Conv2d", "Linear"], method="both"):
        twin = copy.deepcopy(model)
    compiled = torch.compile(twin, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images(3)), model(images(3)))


def forward(model):
    with ts.capture(model, "Linear") as run:
        model(images(4))
    return run


def test_models_and_runs_travel_to_spawned_processes():
    model = network()
    with (
        ts.capture(model, "Conv2d"),
        multiprocessing.get_context("spawn").Pool(1) as pool,
    ):
        run = pool.apply(forward, [model])
    assert run["3_post_states"].state_count == 4
    assert run["3_post_states"].histogram() == forward(model)["3_post_states"].histogram()


class Rows(torch.utils.data.Dataset):
    """Rows of a stored layer, for a DataLoader."""

    def __init__(self, layer):
        self.layer = layer

    def __len__(self):
        return len(self.layer)

    def __getitem__(self, index):
        return self.layer[index : index + 1]


def test_a_dataloader_spawns_workers_that_read_a_store(tmp_path):
    model = network()
    with ts.capture(model, "Linear", storage_path=tmp_path / "run.zarr") as run:
        model(images(8))
    layer = ts.Store(tmp_path / "run.zarr")["3_post_states"]
    loader = torch.utils.data.DataLoader(
        Rows(layer), batch_size=4, num_workers=1, multiprocessing_context="spawn"
    )
    read = torch.cat(list(loader))[:, 0]
    assert read.tolist() == run["3_post_states"].raw_states.tolist()
