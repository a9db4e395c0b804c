"""What a store keeps of layers besides their states: passes, names, calls and shapes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.copies import copies
from tests.support.torch_models import ignores_torchscript, images


class Skipping(nn.Module):
    """A layer that always runs, one that runs at times, and an activation of two names."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.sometimes, self.act = nn.Conv1d(4, 4, 1), nn.Conv1d(4, 4, 1), nn.ReLU()
        self.again = self.act
        self.in_the_middle = lambda: None

    def forward(self, x: torch.Tensor, skip: bool = False) -> torch.Tensor:
        x = self.act(self.always(x))
        self.in_the_middle()
        return x if skip else self.again(self.sometimes(x) - 0.1)


def run_passes(model: nn.Module, skipped: str) -> None:
    for skip in skipped:
        model(images(5, 4, 6), skip=skip == "-")


def captured(path: Path, skipped: str) -> ts.Run:
    torch.manual_seed(0)
    model = Skipping()
    with ts.capture(model, ["Conv1d", "ReLU"], storage_path=ts.Store(path, "a")) as run:
        run_passes(model, skipped)
    run["act_post_states"].disk_path.close()
    return run


NAMES = ["always", "sometimes", "act", "act:2"]


def passes_of(store: ts.Store) -> list[tuple[int, int] | None]:
    return [store[f"{name}_post_states"].passes for name in NAMES]


def test_a_store_reports_as_the_run_did(tmp_path, capsys):
    from tensorstate_gpu._cli.main import main

    run = captured(tmp_path / "run", "x-x--")
    store = ts.Store(tmp_path / "run")
    assert sorted(str(store.report()).splitlines()) == sorted(str(run.report()).splitlines())
    assert passes_of(store) == [(5, 5), (2, 5), (5, 5), (2, 5)]
    assert store["act_post_states"].axis_origin == "flow"
    assert main(["report", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    words = " ".join(printed.split())
    assert "sometimes_post_states 2 of 5 passes" in words
    assert "act_post_states also again_post_states" in words
    assert "1 flow" in printed
    assert main(["report", str(tmp_path / "run"), "--json"]) == 0
    layers = {layer["layer"]: layer for layer in json.loads(capsys.readouterr().out)["layers"]}
    assert layers["act:2_post_states"]["passes"] == 2
    assert layers["act:2_post_states"]["model_passes"] == 5
    assert layers["act_post_states"]["other_names"] == ["again_post_states"]


def test_names_calls_and_shapes(tmp_path):
    run = captured(tmp_path / "run", "x")
    run.save(tmp_path / "saved")
    for kept in (run, ts.Store(tmp_path / "run"), ts.Store(tmp_path / "saved")):
        second = kept["again:2_post_states"]
        assert second.name == "act:2_post_states"
        assert second.facts() == kept["act:2_post_states"].facts()
        assert [kept[f"{name}_post_states"].call_of for name in NAMES] == [
            *3 * [None],
            "act_post_states",
        ]
        assert second.facts().spatial_shape == (6,)
    with pytest.raises(KeyError, match="no states of 'other'"):
        ts.Store(tmp_path / "run")["other"]


def test_shapes_that_differ():
    model = nn.Conv1d(4, 4, 1)
    with ts.capture(model, "*") as run:
        model(images(5, 4, 6))
        model(images(5, 4, 7))
    assert run["Conv1d_post_states"].facts().spatial_shape is None


class Transposed(nn.Module):
    def forward(self, x):
        return x.mT


@pytest.mark.parametrize(
    ("shape", "batch_axis", "expected"),
    [((2, 7, 4), 0, (7,)), ((7, 2, 4), 1, (7,)), ((7, 4), 0, ()), ((2, 7, 3, 4), 0, (7, 3))],
)
def test_the_spatial_shape_is_that_of_one_input(shape, batch_axis, expected):
    model = torch.nn.Sequential(torch.nn.Linear(4, 5))
    with ts.capture(model, "Linear", batch_axis=batch_axis) as run:
        model(torch.ones(shape))
    assert run["0_post_states"].facts().spatial_shape == expected


def test_the_spatial_shape_of_an_unbatched_input():
    model = torch.nn.Sequential(torch.nn.Conv1d(3, 5, 2), Transposed(), torch.nn.Linear(5, 4))
    with ts.capture(model, ["Conv1d", "Linear"]) as run:
        model(torch.ones(3, 8))
    assert [point.facts().spatial_shape for point in run.values()] == [(7,), (7,)]


def test_passes_add_up_when_a_capture_is_resumed(tmp_path):
    captured(tmp_path / "run", "x--")
    run = captured(tmp_path / "run", "xx--")
    assert [run[f"{name}_post_states"].passes for name in NAMES] == [(7, 7), (3, 7)] * 2
    assert passes_of(ts.Store(tmp_path / "run")) == [(7, 7), (3, 7)] * 2


def test_a_layer_that_first_runs_in_a_resumed_capture(tmp_path):
    for skipped in ("---", "xx--"):
        model, store = Skipping(), ts.Store(tmp_path / "run", "a")
        with store, ts.capture(model, "Conv1d", storage_path=store):
            run_passes(model, skipped)
    assert ts.Store(tmp_path / "run")["sometimes_post_states"].passes == (2, 7)


def test_a_later_call_first_appears_in_a_resumed_capture(tmp_path):
    captured(tmp_path / "run", "--")
    run = captured(tmp_path / "run", "x-x")
    store = ts.Store(tmp_path / "run")
    assert run["act:2_post_states"].instance_count == 10
    assert passes_of(store) == [(5, 5), (2, 5)] * 2
    assert store["act:2_post_states"].call_of == "act_post_states"
    with pytest.raises(ValueError, match=r"holds the layers .*, and not 'other'"):
        ts.CapturePoint("other", ts.Store(tmp_path / "run", "a"))


def test_layers_that_skip_passes_do_not_keep_a_capture_from_being_resumed(tmp_path):
    run = captured(tmp_path / "run", "x--")
    assert run.instance_count == 15
    store = ts.Store(tmp_path / "run", "a")
    with store, ts.capture(Skipping(), ["Conv1d", "ReLU"], storage_path=store) as run:
        assert run.instance_count == 15


def test_inputs_are_unknown_where_no_layer_ran_in_every_pass():
    model = Skipping()
    with ts.capture(model, "sometimes") as run:
        run_passes(model, "x-")
    with pytest.raises(ValueError, match="no layer ran in every pass"):
        assert run.instance_count


def test_passes_count_from_a_reset(tmp_path):
    model = ts.build_efficiency_model(Skipping(), "Conv1d", storage_path=tmp_path / "run")
    run_passes(model, "x-")
    ts.reset_efficiency_model(model)
    run_passes(model, "-x-")
    ts.Run(model.efficiency_layers).close()
    assert ts.Store(tmp_path / "run")["sometimes_post_states"].passes == (1, 3)


def test_a_commit_in_the_middle_of_a_pass_counts_those_that_have_ended(tmp_path):
    model, store = Skipping(), ts.Store(tmp_path / "run", "x")
    with store, ts.capture(model, "Conv1d", storage_path=store) as run:
        run_passes(model, "xx")
        model.in_the_middle = store.commit
        run_passes(model, "x")
        committed = ts.Store(tmp_path / "run")
        assert committed["always_post_states"].instance_count == 15
        assert [layer.passes for layer in committed.efficiency_layers] == [(2, 2), (2, 2)]
        assert [point.passes for point in run.values()] == [(3, 3), (3, 3)]


@ignores_torchscript
@copies("copy", "deepcopy", "pickle")
def test_a_store_of_a_layer_that_was_bypassed_has_no_measures(tmp_path, copied):
    model = ts.build_efficiency_model(
        nn.Sequential(nn.Sequential(nn.Linear(4, 4))), "0.0", storage_path=tmp_path / "run"
    )
    model(images(5, 4))
    model[0].forward = torch.jit.trace(nn.Linear(4, 4), images(5, 4)).forward
    model(images(5, 4))
    ts.Run(model.efficiency_layers).close()
    store = copied(ts.Store(tmp_path / "run"))
    for read in (store.report, store["0.0_post_states"].entropy):
        with pytest.raises(ts.errors.PassesMissed, match=r"1 of the model's 2 passes.*TorchScript"):
            read()


def rewrite(path: Path, change: Any) -> None:
    """Change the entries of all layers in a commit record."""
    from tensorstate_gpu.store.documents import with_checksum

    document = json.loads((path / "zarr.json").read_bytes())
    for layer in document["attributes"]["tensorstate"]["layers"].values():
        change(layer)
    (path / "zarr.json").write_bytes(with_checksum(document))


def test_a_record_that_an_older_version_wrote(tmp_path):
    captured(tmp_path / "run", "x-")
    rewrite(tmp_path / "run", lambda layer: layer.pop("facts"))
    assert passes_of(ts.Store(tmp_path / "run")) == 4 * [None]
    captured(tmp_path / "run", "x-")
    store = ts.Store(tmp_path / "run")
    assert passes_of(store) == 4 * [None]  # those of the first capture are not known
    assert store["again_post_states"].instance_count == 20


@pytest.mark.parametrize(
    "facts",
    [
        {"passes": [3, 2]},
        {"passes": [1]},
        {"passes": ["1", 2]},
        {"passes": 3},
        {"bypass": 1},
        {"other_names": "act"},
        {"other_names": [1]},
        {"spatial_shape": [-1]},
        "x",
    ],
)
def test_facts_that_are_none(tmp_path, facts):
    captured(tmp_path / "run", "x")
    rewrite(tmp_path / "run", lambda layer: layer.update(facts=facts))
    with pytest.raises(ts.errors.DamagedStore, match="is damaged"):
        ts.Store(tmp_path / "run")
