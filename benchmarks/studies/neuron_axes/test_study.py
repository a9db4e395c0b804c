"""The study itself: what it takes down of a model, and how it goes on after failures."""

import json
from types import SimpleNamespace

import torch
from torch import nn

from benchmarks.studies.neuron_axes import study
from benchmarks.studies.neuron_axes.captured import Taken, TakenAxes, taken_axes
from benchmarks.studies.neuron_axes.cost import measured
from benchmarks.studies.neuron_axes.findings import findings
from benchmarks.studies.neuron_axes.models import Published, published
from benchmarks.studies.neuron_axes.passes import Inputs
from benchmarks.studies.neuron_axes.table import model_rows, summary_rows, text_table


class Strange(nn.Module):
    """Has a layer that is called twice, and one that returns nothing that can be captured."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.act, self.rotated = nn.Linear(4, 6), nn.ReLU(), Rotated()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.rotated(x)
        return self.act(self.dense(self.act(x)))


class Rotated(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 1j


def strange() -> tuple[nn.Module, Inputs]:
    return Strange(), Inputs((torch.randn(3, 5, 4),), batch=3)


def test_layers_that_cannot_be_captured_are_noted_and_left_out():
    taken = taken_axes(*strange())
    assert set(taken.problems) == {"rotated"}
    assert taken.of("rotated", 0, 3).origin == "raised"
    assert "complex" in taken.of("rotated", 0, 3).problem
    assert taken.of("dense", 0, 3).axis == 2


def test_a_later_call_may_have_a_point_of_its_own():
    points = {
        "act_post_states": SimpleNamespace(axis=1, axis_origin="flow"),
        "act:2_post_states": SimpleNamespace(axis=-1, axis_origin="guess"),
    }
    taken = TakenAxes(points, {})
    assert (taken.of("act", 0, 4).axis, taken.of("act", 0, 4).origin) == (1, "flow")
    assert (taken.of("act", 1, 4).axis, taken.of("act", 1, 4).origin) == (3, "guess")
    assert taken.of("act", 2, 4).axis == 1
    assert taken.of("made in the pass", 0, 4).origin == "raised"


def test_findings_of_a_model():
    found = findings(Published("ours", "strange", strange))
    assert found["calls"] == 4
    assert sum(found["right"].values()) == 2
    assert [name.partition(",")[0] for name in found["undecided"]] == ["untouched"]
    assert found["wrong"] == []
    assert [call["layer"] for call in found["raised"]] == ["rotated"]


def test_a_wrong_axis_is_found(monkeypatch):
    monkeypatch.setattr(TakenAxes, "of", lambda *call: Taken(1, "rule"))
    found = findings(Published("ours", "strange", strange))
    calls = [(call["layer"], call["call"], call["true"], call["taken"]) for call in found["wrong"]]
    assert calls == [("dense", 1, 2, 1), ("act", 2, 2, 1)]


def test_a_model_that_cannot_be_built_is_listed():
    def make() -> tuple[nn.Module, Inputs]:
        raise ImportError("no such library")

    found = findings(Published("ours", "missing", make))
    assert found["error"] == "ImportError: no such library"
    assert "no such library" in text_table(model_rows({"ours/missing": found}))


MIXED = {
    "calls": 5,
    "right": {"rule": 1, "flow": 1},
    "wrong": [{"class": "GELU", "origin": "guess"}, {"class": "GELU", "origin": "rule"}],
    "raised": [],
    "undecided": {"mixed, guess": 1},
    "seconds": 1.5,
}


def test_sums_tell_guesses_from_silent_errors():
    found = {"a/x": MIXED, "a/y": {"error": "failed"}, "b/z": MIXED}
    heading, *rows = summary_rows(found)
    assert heading[:5] == ["library", "models", "calls", "right", "wrong, in silence"]
    assert rows == [
        ["a", "1", "5", "2", "1", "1", "0", "1", "1"],
        ["b", "1", "5", "2", "1", "1", "0", "1", "0"],
        ["all", "2", "10", "4", "2", "2", "0", "2", "1"],
    ]


def test_what_is_in_the_file_is_not_run_again_unless_it_failed(tmp_path, monkeypatch):
    file, run = tmp_path / "axes.json", []

    def noted(each, limit):
        run.append(each.name)
        return MIXED

    monkeypatch.setattr(study, "in_a_process", noted)
    models = [Published("ours", name, strange) for name in ("done", "failed", "new")]
    found = {"ours/done": MIXED, "ours/failed": {"error": "failed"}}
    study.study(models, found, file, 1)
    assert run == ["failed", "new"]
    assert set(json.loads(file.read_text())["models"]) == {"ours/done", "ours/failed", "ours/new"}


def test_a_process_that_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(study, "WARM", "json")
    (model,) = published("timm", "resnet10t")
    found = study.in_a_process(model, 0)
    assert found == {"error": "not finished after 0 s", "seconds": 0}


def test_passes_are_timed():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
    assert min(measured(model, Inputs((torch.randn(3, 4),), batch=3), 1)) > 0
