"""``attach_to="*"``: modules without a tensor are skipped, tied ones answer to all their names."""

import copy
import warnings

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import capture_hooks_of, images

Outputs = dict[str, torch.Tensor]


class Boxes(nn.Module):
    """The end of a detector: what it returns has no tensor."""

    def forward(self, x: torch.Tensor) -> list[dict[str, str]]:
        return [{"label": "cat"} for _ in range(3)]


class Logger(nn.Module):
    def forward(self, x: torch.Tensor) -> None:
        pass


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.boxes, self.log = nn.Linear(4, 3), Boxes(), Logger()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x)
        self.boxes(x)
        self.log(x)
        return x


SKIPPED = r"these layers pass nothing that has neurons, .*: boxes_post_states, log_post_states$"


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_modules_without_a_tensor_are_skipped_and_named_once(keep):
    model = Detector()
    with ts.capture(model, "*", keep=keep) as run:
        with pytest.warns(ts.errors.SkippedLayersWarning, match=SKIPPED) as told:
            model(images(5, 4))
        assert len(told) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model(images(5, 4))
    assert [point.instance_count for point in run.values()] == [10, 0, 0]
    assert run.report().missing == ("boxes_post_states", "log_post_states")
    with pytest.raises(
        ts.errors.NothingCaptured, match=r"log_post_states.*no neurons \(no tensor\); exclude"
    ):
        run["log_post_states"].entropy()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_modules_without_a_tensor_in_a_compiled_model(backend):
    torch.compiler.reset()
    model = Detector()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    with ts.capture(model, "*") as run:
        with pytest.warns(ts.errors.SkippedLayersWarning) as told:  # noqa: PT031
            for _ in range(2):
                compiled(images(5, 4))
        said = " ".join(str(warning.message) for warning in told)  # one or two, as torch calls it
        assert [said.count(name) for name in [*run][1:]] == [1, 1]
    assert [point.instance_count for point in run.values()] == [10, 0, 0]


def test_a_module_that_passes_a_tensor_only_at_times():
    class Moody(nn.Module):
        def forward(self, x: torch.Tensor) -> Outputs | None:
            return {"x": x} if len(x) > 3 else None

    model = nn.Sequential(Moody())
    with ts.capture(model, "*") as run:
        with pytest.warns(ts.errors.SkippedLayersWarning):
            model(images(2, 4))
        model(images(5, 4))
    assert run["0_post_states"].instance_count == 5
    assert "0_post_states 1 of 2 passes" in " ".join(str(run.report()).split())


class Tied(nn.Module):
    """One activation, and one layer with weights, each of two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act = nn.Linear(4, 4), nn.ReLU()
        self.inner = nn.ModuleDict({"act": self.act, "head": nn.Linear(4, 4)})
        self.head = self.inner["head"]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.inner["act"](self.act(self.first(x)) - 0.1))


def test_a_tied_module_answers_to_all_its_names():
    model = Tied()
    for attach_to in ("*", ["ReLU", "Linear"], ["first", "inner.act", "head"]):
        with ts.capture(model, attach_to, exclude="inner") as run:
            assert len(capture_hooks_of(model)) == 3
            model(images(5, 4))
        names = ["first", "act", "act:2", "inner.head"]
        assert [*run] == [f"{name}_post_states" for name in names]
        for one, other in (("act", "inner.act"), ("act:2", "inner.act:2"), ("inner.head", "head")):
            assert run[f"{one}_post_states"] is run[f"{other}_post_states"]
            assert f"{other}_post_states" in run
        report = run.report()
        assert report["head_post_states"] is report["inner.head_post_states"]
        assert report["head_post_states"].other_names == ("head_post_states",)
        assert ("act_post_states", "also inner.act_post_states") in report.summary()
    copied = copy.deepcopy(run)
    assert copied["head_post_states"] is copied["inner.head_post_states"]
    assert copied["inner.act:2_post_states"].instance_count == 5
    assert report["head"] is report["inner.head"]
    with pytest.raises(KeyError, match="report has no states of 'tail'"):
        report["tail"]


def test_names_of_a_tied_module_are_excluded_together():
    with ts.capture(Tied(), "*", exclude=["inner.act", "head", "inner"]) as run:
        assert [*run] == ["first_post_states"]


def test_a_tied_module_is_captured_once():
    model = ts.build_efficiency_model(Tied(), "head")
    ts.build_efficiency_model(model, ["inner.head", "act"])
    model(images(5, 4))
    assert [point.name for point in model.efficiency_layers] == [
        "inner.head_post_states",
        "act_post_states",
        "act:2_post_states",
    ]


def test_an_axis_that_is_given_by_another_name():
    model = Tied()
    with ts.capture(model, ["act", "head"], neuron_axis={"head": 0, "inner.a*": 0}) as run:
        model(images(5, 4))
    assert [point.axis_origin for point in run.values()] == 3 * ["given"]
    with pytest.raises(ValueError, match="no layer that is captured has the name 'first'"):
        ts.build_efficiency_model(model, "head", neuron_axis={"first": 0})
