"""Passes that an error or an interrupt has ended: what runs after them is no part of them."""

from contextlib import suppress

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import images

pytestmark = pytest.mark.usefixtures("nothing_compiled_before")

ERRORS = (ValueError, KeyboardInterrupt, torch.linalg.LinAlgError)


class Breaking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part, self.head = nn.Sequential(nn.Linear(3, 3), nn.ReLU()), nn.Linear(3, 3)
        self.error: type[BaseException] | None = None

    def forward(self, x: torch.Tensor, breaks: bool = False) -> torch.Tensor:
        h = self.head(self.part(x))
        if self.error is not None:
            raise self.error
        return torch.linalg.cholesky(-h.T @ h) if breaks else h


def compiled(module: nn.Module) -> nn.Module:
    return torch.compile(module, backend="eager")


def break_in(model: Breaking, error: type[BaseException] | None) -> None:
    """Let a pass of 5 inputs fail after its last layer; a compiled one in a graph if error=None.

    After another pass: the first of a kind is followed, which a later one notices.
    """
    model(images(5, 3), breaks=False)
    model.error = error
    with torch.no_grad(), suppress(*ERRORS):
        call = model if error is not None else compiled(model)
        call(images(5, 3), breaks=error is None)
        raise AssertionError("the pass has not failed")
    model.error = None


AFTER = {  # and how many inputs each of two layers has then
    "a layer": (lambda model: model.head(images(7, 3)), 10, 17),
    "a layer, twice": (lambda model: [model.head(images(7, 3)) for _ in range(2)], 10, 24),
    "a part": (lambda model: model.part(images(7, 3)), 17, 10),
    "a part, twice": (lambda model: [model.part(images(7, 3)) for _ in range(2)], 24, 10),
    "a compiled part": (lambda model: compiled(model.part)(images(7, 3)), 17, 10),
    "a pass": (lambda model: model(images(7, 3)), 17, 17),
    "a compiled pass": (lambda model: compiled(model)(images(7, 3)), 17, 17),
    "compiled passes": (
        lambda model: [compiled(model)(images(n, 3)) for n in (7, 6)],
        23,
        23,
    ),
}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, None])
@pytest.mark.parametrize("name", AFTER)
def test_what_runs_afterwards(error, name):
    call, in_part, in_head = AFTER[name]
    model = Breaking()
    with ts.capture(model, "Linear") as run:
        break_in(model, error)
        with torch.no_grad():
            call(model)
    inputs = {layer.name: layer.instance_count for layer in run.efficiency_layers}
    assert inputs == {"part.0_post_states": in_part, "head_post_states": in_head}
    assert [layer.state_count for layer in run.efficiency_layers] == [in_part, in_head]


def test_labels_after_an_interrupt_are_those_of_the_inputs():
    model, x = Breaking(), images(5, 4, 3)
    with ts.capture(model, "head") as run:
        for error in (None, KeyboardInterrupt):
            model.error = error
            with suppress(KeyboardInterrupt), run.labels(range(5)):
                model(x)
        model.error = None
        with torch.no_grad(), run.labels(range(7)):
            compiled(model)(images(7, 4, 3))
    by_label = {label: counts.total for label, counts in run["head"].counts_by().items()}
    assert by_label == {**dict.fromkeys(range(5), 12), 5: 4, 6: 4}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_labels_of_a_pass_that_failed_are_not_those_of_a_layer_after_it(error):
    model = Breaking()
    model.error = error
    with ts.capture(model, "head") as run:
        run.labels(range(5))
        with suppress(error):
            model(images(5, 3))
        model.head(images(5, 3))
        with pytest.raises(ts.errors.LabelsMissing, match="5 of 10 instances"):
            run["head"].counts_by()


def test_a_part_of_another_model_after_a_compiled_pass_has_failed():
    model = ts.build_efficiency_model(Breaking(), attach_to="head")
    break_in(model, None)
    other = nn.Sequential(nn.Linear(4, 4))
    with torch.no_grad(), ts.capture(other, "0") as run:
        compiled(other[0])(images(8, 4))
    assert run.instance_count == 8
