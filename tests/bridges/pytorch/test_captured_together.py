"""Models, and parts of them, that are captured at the same time, in one compiled graph."""

from contextlib import ExitStack

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.pytorch.axis_flow import graph_axes
from tests.support.torch_models import images

pytestmark = pytest.mark.usefixtures("nothing_compiled_before")


class Two(nn.Module):
    """Gives its second part the inputs along another axis, if it transposes."""

    def __init__(self, *, transposes: bool, breaks: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = (nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(2))
        self.transposes, self.breaks = transposes, breaks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.one(x)
        h = h.transpose(0, 1) if self.transposes else h
        if self.breaks:
            torch._dynamo.graph_break()
        return self.two(h)


def counted(run: ts.Run, name: str) -> object:
    try:
        by_label = run[name].counts_by()
    except ts.errors.InputsUnknown:
        return "unknown"
    return {label: counts.packed.tolist() for label, counts in by_label.items()}


def of_each(model: nn.Module, call: nn.Module, parts: list[nn.Module], **options: int) -> object:
    """What is counted in a model, and in each part of it that is captured, too."""
    with ExitStack() as stack, torch.no_grad():
        runs = [stack.enter_context(ts.capture(each, **options)) for each in (model, *parts)]
        for run in runs:
            stack.enter_context(run.labels(range(4)))
        call(images(4, 4, 4))
    names = [layer.name for layer in runs[0].efficiency_layers]
    return [
        *(counted(runs[0], name) for name in names),
        *(counted(run, run.efficiency_layers[0].name) for run in runs[1:]),
    ]


@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.parametrize("parts", [("one",), ("two",), ("one", "two"), ("two", "one")])
def test_a_model_and_its_parts(parts, breaks):
    for transposes in (False, True):
        model = Two(transposes=transposes, breaks=breaks)
        captured = [getattr(model, part) for part in parts]
        plain = of_each(model, model, captured)
        assert "unknown" not in plain
        compiled = of_each(model, torch.compile(model, backend="eager"), captured)
        # Where the second part is given the inputs along another axis, both are in the graph.
        both = [transposes and "two" in parts and name == "two" for name in ("one", "two", *parts)]
        expected = ["unknown" if each else rows for each, rows in zip(both, plain, strict=True)]
        assert compiled == expected


def test_a_graph_in_which_the_pass_ends_notes_nothing_of_what_leaves_it(monkeypatch):
    """It would be a call of Python in each pass."""
    model, noted = Two(transposes=False, breaks=False), []
    monkeypatch.setattr(graph_axes, "add_end", lambda *to: noted.append(to))
    with ts.capture(model.one) as run:
        torch.compile(model, backend="eager")(images(4, 4))
    assert run["0"].state_count == 4
    assert not noted


@pytest.mark.parametrize("axes", [(0, 1), (1, 0)])
def test_a_model_of_which_captures_find_the_inputs_along_other_axes(axes):
    model = Two(transposes=False, breaks=False)
    call = torch.compile(model, backend="eager")
    plain = [of_each(model, model, [], batch_axis=axis) for axis in axes]
    assert plain[0] != plain[1]
    with ExitStack() as stack, torch.no_grad():
        runs = [stack.enter_context(ts.capture(model, batch_axis=axis)) for axis in axes]
        for run in runs:
            stack.enter_context(run.labels(range(4)))
        call(images(4, 4, 4))
    first, second = ([counted(run, "one.0"), counted(run, "two.0")] for run in runs)
    assert first == plain[0]
    assert second == ["unknown", "unknown"]
    with pytest.raises(ts.errors.InputsUnknown, match="another batch_axis"):
        runs[1]["one.0"].counts_by()


def test_a_model_that_is_captured_twice():
    model = Two(transposes=True, breaks=True)
    plain = of_each(model, model, [model])
    assert of_each(model, torch.compile(model, backend="eager"), [model]) == plain
    assert "unknown" not in plain


def test_a_model_that_is_called_twice_in_a_graph():
    model = Two(transposes=True, breaks=False)

    def step(x: torch.Tensor) -> torch.Tensor:
        return model(model(x))

    plain, compiled = (
        of_each(model, call, []) for call in (step, torch.compile(step, backend="eager"))
    )
    assert plain == compiled
    assert "unknown" not in plain
