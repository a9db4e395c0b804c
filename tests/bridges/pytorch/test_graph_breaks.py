"""Behind a graph break, rows belong to the inputs that they belong to, or to none that is known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.pytorch.axis_flow import across_graphs
from tensorstate_gpu.bridges.pytorch.axis_flow.across_graphs import UNKNOWN, TracedAxes
from tensorstate_gpu.bridges.pytorch.axis_flow.factors import batch, neuron
from tests.support.torch_models import images

pytestmark = [
    pytest.mark.usefixtures("nothing_compiled_before"),
    pytest.mark.filterwarnings("ignore::tensorstate_gpu.errors.GuessedAxisWarning"),
]
Do = Callable[["Broken", torch.Tensor], torch.Tensor]


class Broken(nn.Module):
    """Layers before and after graph breaks."""

    def __init__(self, function: Do) -> None:
        super().__init__()
        self.first, self.act, self.last = nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)
        self.part = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.act(self.function(self, x)))


def end_graph(value: Any) -> Any:
    torch._dynamo.graph_break()
    return value


def begin_after_break(model: Broken, h: torch.Tensor) -> torch.Tensor:
    end_graph(h)
    return model.part(h)


def rows_of(run: ts.Run) -> dict[str, object]:
    """Return for each layer that ran its distinct rows of each input, or why they are unknown."""
    found: dict[str, object] = {}
    for name, point in run.items():
        if point.state_count == 0:
            continue
        try:
            counts = point.counts_by()
            found[name] = {
                label: dict(zip(each.state_ids(), each.counts.tolist(), strict=True))
                for label, each in counts.items()
            }
        except ts.errors.InputsUnknown:
            found[name] = "unknown"
    return found


def captured(model: nn.Module, call: Callable[[torch.Tensor], Any]) -> dict[str, object]:
    with torch.no_grad(), ts.capture(model, "*") as run:
        for number, size in enumerate((4, 3)):
            with run.labels([f"{number}.{i}" for i in range(size)]):
                call(images(size, 4, 3))
    return rows_of(run)


def in_both(function: Do) -> tuple[dict[str, object], dict[str, object]]:
    """Return the rows of a model as it is, and of the compiled one."""
    model = Broken(function)
    plain = captured(model, model)
    return plain, captured(model, torch.compile(model, backend="eager"))


KNOWN: dict[str, Do] = {
    "as they are": lambda m, x: end_graph(m.first(x)),
    "along another axis": lambda m, x: end_graph(m.first(x).transpose(0, 1)),
    "several breaks": lambda m, x: end_graph(m.part(end_graph(m.first(x).transpose(0, 1)))),
    "in a function": lambda m, x: begin_after_break(m, m.first(x).transpose(0, 1)),
    "written in place": lambda m, x: end_graph(m.first(x).mul_(2)),
}
UNKNOWN_AFTER: dict[str, Do] = {
    "flipped": lambda m, x: end_graph(m.first(x).flip(0)),
    "in their own memory": lambda m, x: end_graph((h := m.first(x)).copy_(h.flip(0))),
    "taken apart": lambda m, x: torch.stack(end_graph([*m.first(x)])[::-1]),
}


@pytest.mark.parametrize("function", KNOWN.values(), ids=KNOWN)
def test_what_a_graph_before_knows_is_known(function):
    plain, compiled = in_both(function)
    assert "unknown" not in plain.values()
    assert compiled == plain


@pytest.mark.parametrize("function", UNKNOWN_AFTER.values(), ids=UNKNOWN_AFTER)
def test_rows_that_were_moved_before_are_unknown(function):
    _, compiled = in_both(function)
    assert compiled["last_post_states"] == compiled["act_post_states"] == "unknown"


def outside(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return torch.compiler.disable(function)  # type: ignore[no-untyped-call, no-any-return]


def test_what_runs_outside_of_graphs_is_not_guessed():
    def write(h: torch.Tensor) -> torch.Tensor:
        return h.copy_(h.flip(0))

    for function in (
        lambda m, x: outside(lambda h: h.flip(0))(m.first(x)),
        lambda m, x: outside(write)(m.first(x)),
        lambda m, x: outside(m.part[0])(m.first(x)),
    ):
        plain, compiled = in_both(function)
        assert compiled.pop("first_post_states") == plain["first_post_states"]
        assert {*compiled.values()} == {"unknown"}
        torch.compiler.reset()


def test_a_part_outside_of_graphs_has_the_inputs_that_it_is_given():
    plain, compiled = in_both(lambda m, x: outside(m.part)(m.first(x).transpose(0, 1)))
    for name in ("part", "part.0", "part.1"):
        assert compiled[f"{name}_post_states"] == plain[f"{name}_post_states"]


def test_calls_outside_of_graphs_count_in_the_pass():
    model = Broken(lambda m, x: outside(m.part)(outside(m.part)(m.first(x))))
    call = torch.compile(model, backend="eager")
    with torch.no_grad(), ts.capture(model, "part") as run:
        for _ in range(2):
            call(images(4, 4, 3))
    assert {name: point.state_count for name, point in run.items()} == {
        "part_post_states": 32,
        "part:2_post_states": 32,
    }


def test_a_graph_that_runs_for_other_tensors_is_not_believed():
    """What comes after the break in the function is one graph, made for inputs along axis 0."""

    def function(model: Broken, x: torch.Tensor) -> torch.Tensor:
        h = model.first(x)
        return begin_after_break(model, h) + begin_after_break(model, h.transpose(0, 1))

    model = Broken(function)
    x = images(4, 4, 3)
    runs = []
    for call in (model, torch.compile(model, backend="eager")):
        with torch.no_grad(), ts.capture(model, ["first", "part.0"]) as run, run.labels(range(4)):
            call(x)
        runs.append(rows_of(run))
    plain, compiled = runs
    assert compiled["part.0_post_states"] == plain["part.0_post_states"]
    assert compiled["part.0:2_post_states"] == "unknown"


def test_what_is_checkpointed_in_a_compiled_model_is_unknown():
    def function(model: Broken, x: torch.Tensor) -> torch.Tensor:
        h = model.first(x).transpose(0, 1)
        return torch.utils.checkpoint.checkpoint(model.part, h, use_reentrant=False)

    model = Broken(function)
    call = torch.compile(model, backend="eager")
    with ts.capture(model, ["first", "part.0"]) as run, run.labels(range(4)):
        call(images(4, 3, 3)).sum().backward()
    assert rows_of(run)["part.0_post_states"] == "unknown"
    assert run["first_post_states"].instance_count == 4
    with pytest.raises(ts.errors.InputsUnknown, match="lost at a graph within another one"):
        run["part.0_post_states"].counts_by()


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act = nn.Linear(3, 8), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.layer(x).transpose(0, 1))


def test_a_part_that_is_compiled_and_called_by_itself():
    model = nn.ModuleDict({"encoder": Encoder(), "head": nn.Linear(8, 2)})
    encoder = model["encoder"]
    plain = captured(model, encoder)
    assert captured(model, torch.compile(encoder, backend="eager")) == plain
    assert "unknown" not in plain.values()


def decompose_negative(model: Broken, x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.cholesky(-model.first(x).T @ model.first(x))


def interrupt(model: Broken, x: torch.Tensor) -> torch.Tensor:
    raise KeyboardInterrupt(model.first(x).shape)


@pytest.mark.parametrize(
    ("function", "error", "compiled"),
    [(decompose_negative, RuntimeError, True), (interrupt, KeyboardInterrupt, False)],
)
def test_a_part_that_is_called_after_a_pass_of_another_model_has_failed(function, error, compiled):
    other = Broken(function)
    called = torch.compile(other, backend="eager") if compiled else other
    with ts.capture(other, "first") as failed, pytest.raises(error):
        called(images(8, 3))
    layer = nn.Linear(4, 4)
    with ts.capture(nn.Sequential(layer), "0") as run:
        torch.compile(layer, backend="eager")(images(8, 4))
    assert run.instance_count == 8
    assert failed["first"].state_count > 0


def test_inputs_of_a_part_are_not_those_of_another_that_ran_before():
    for layer, rows in ((nn.Linear(4, 4), 6), (torch.fx.symbolic_trace(nn.Linear(4, 4)), 8)):
        with ts.capture(nn.Sequential(layer), "0") as run:
            torch.no_grad()(torch.compile(layer, backend="eager"))(images(rows, 4))
        assert run["0"].state_count == rows
        # The hook of a GraphModule is a graph of its own: nothing tells what its forward does.
        if isinstance(layer, torch.fx.GraphModule):
            with pytest.raises(ts.errors.InputsUnknown, match="graph break"):
                _ = run["0"].instance_count
        else:
            assert run["0"].instance_count == rows


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.utils.checkpoint.checkpoint(self.layer, x, use_reentrant=False)


def test_inputs_of_a_checkpointed_part_are_not_those_of_another_that_ran_before():
    model = nn.ModuleList([nn.Sequential(nn.Linear(4, 4)), Checkpointed()])
    with ts.capture(model, "Linear") as run:
        for part, rows in zip(model, (7, 5), strict=True):
            torch.compile(part, backend="eager")(images(rows, 4))
    assert run["0.0"].instance_count == 7
    assert run["1.layer"].state_count == 5
    with pytest.raises(ts.errors.InputsUnknown, match="lost at a graph within another one"):
        _ = run["1.layer"].instance_count


def test_what_is_known_of_a_tensor_ends_with_its_memory():
    known = TracedAxes((batch(2), neuron(2)), "", "")
    memory = np.zeros(4, np.float32)
    tensor = torch.from_numpy(memory).view(2, 2)
    across_graphs.note_left(tensor, known)
    assert across_graphs.known_of_left(tensor) == known
    assert across_graphs.known_of_left(tensor.T) is None
    tensor += 1
    assert across_graphs.known_of_left(tensor) is None
    across_graphs.note_left(tensor, known)
    del tensor
    assert across_graphs.known_of_left(torch.from_numpy(memory).view(2, 2)) is None


def test_few_tensors_that_have_gone_are_known(monkeypatch):
    monkeypatch.setattr(across_graphs, "_left", {})
    many = [images(2, 3) for _ in range(2 * across_graphs._MOST)]
    for tensor in many:
        across_graphs.note_left(tensor, UNKNOWN)
    del many, tensor
    across_graphs.note_left(images(2, 3), UNKNOWN)
    assert len(across_graphs._left) == 1
