"""Rows of a compiled model belong to the inputs that they belong to in the model itself."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import images

pytestmark = pytest.mark.usefixtures("nothing_compiled_before")


class Windows(nn.Module):
    """A layer in the middle sees windows of each input, as in Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.inner, self.act = nn.Linear(3, 8), nn.Linear(8, 8), nn.GELU()
        self.after = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.before(x)
        windows = x.view(2 * len(x), -1, 8)
        return self.after(self.act(self.inner(windows)).view(x.shape))


Call = Callable[[torch.Tensor], object]


def whole(model: nn.Module) -> Call:
    return torch.compile(model, backend="eager")


def inside_a_function(model: nn.Module) -> Call:
    return torch.compile(lambda x: model(x.flip(0).flip(0)) + 1, backend="eager")


def plain(model: nn.Module) -> Call:
    return model


def in_each(run: ts.Run) -> dict[str, dict[int, int]]:
    return {
        name: {label: counts.total for label, counts in point.counts_by().items()}
        for name, point in run.items()
    }


@pytest.mark.parametrize("way", [plain, whole, inside_a_function])
def test_windows_belong_to_their_inputs(way):
    model = Windows()
    call = way(model)
    with ts.capture(model, "*") as run:
        for size in (4, 3, 4):
            with run.labels(range(size)):
                call(images(size, 6, 3))
    assert run.instance_count == 11
    assert in_each(run) == {name: {0: 18, 1: 18, 2: 18, 3: 12} for name in run}


@pytest.mark.parametrize("way", [plain, whole])
def test_sequences_first_and_masks(way):
    model = nn.TransformerEncoderLayer(8, 2, 16).eval()
    call, keep = way(model), torch.arange(5) < torch.tensor([3, 5])[:, None]
    with ts.capture(model, ["Linear", "LayerNorm"], batch_axis=1) as run:
        with run.labels([0, 1]):
            call(images(5, 2, 8))
        with run.labels([0, 1], mask=keep):
            call(images(5, 2, 8))
    assert run.instance_count == 4
    assert in_each(run) == {name: {0: 8, 1: 10} for name in run}


class Lost(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x[x.sum(-1) > 0])


def test_what_is_lost_in_a_graph_has_no_labels():
    model = Lost()
    call = torch.compile(model, backend="eager", dynamic=True)
    with ts.capture(model, "layer") as run, run.labels(range(4)):
        call(images(4, 6, 3))
    with pytest.raises(ts.errors.InputsUnknown):
        run["layer"].counts_by()


def test_a_mask_that_is_an_argument_of_a_compiled_model_is_not_seen():
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    model = Masked()
    call = torch.compile(model, backend="eager")
    with (
        pytest.warns(ts.errors.UnmaskedLayerWarning, match="its pass is compiled"),
        ts.capture(model, "layer", mask="mask") as run,
    ):
        call(images(2, 5, 3), torch.ones(2, 5))
    assert run["layer"].state_count == 10


class Broken(nn.Module):
    """Three graphs: what crosses between them was captured, or not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.out = nn.Conv1d(3, 8, 3), nn.ReLU(), nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        torch._dynamo.graph_break()
        x = self.act(x)
        torch._dynamo.graph_break()
        return self.out(x.mT)


def test_what_was_captured_is_known_behind_a_graph_break():
    model = Broken()
    call = torch.compile(model, backend="eager")
    with ts.capture(model, "*") as run, torch.no_grad():
        for labels in ([0, 1], [2, 2, 1]):
            with run.labels(labels):
                call(images(len(labels), 3, 10))
    found = {name: (point.axis, point.axis_origin) for name, point in run.items()}
    assert [*found.values()] == [(1, "layer"), (1, "flow"), (2, "flow")]
    assert in_each(run) == {name: {0: 8, 1: 16, 2: 16} for name in run}


def test_what_was_not_captured_is_a_guess_behind_a_graph_break():
    model = Broken()
    call = torch.compile(model, backend="eager")
    with (
        pytest.warns(ts.errors.GuessedAxisWarning, match="act_post_states"),
        torch.no_grad(),
        ts.capture(model, "act"),
    ):
        call(images(2, 3, 10))
