"""Layers that run in some passes of a model only: captured, and named by the report."""

import copy

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import images

pytestmark = pytest.mark.usefixtures("nothing_compiled_before")


class Skipping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.always, self.sometimes = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, skip: bool = False) -> torch.Tensor:
        x = self.always(x)
        return x if skip else self.sometimes(x)


def run_passes(call: nn.Module, passes: int = 8) -> None:
    with torch.no_grad():
        for step in range(passes):
            call(images(5, 4), skip=step % 4 != 0)


@pytest.mark.parametrize("backend", [None, "eager", "aot_eager"])
@pytest.mark.parametrize("compiled_before", [False, True])
def test_the_report_says_in_how_many_passes_a_layer_ran(backend, compiled_before):
    model = Skipping()
    call = torch.compile(model, backend=backend) if backend else model
    if compiled_before:
        run_passes(call)
    with ts.capture(model, "Linear") as run:
        run_passes(call)
    run_passes(call)
    assert [point.passes for point in run.efficiency_layers] == [(8, 8), (2, 8)]
    assert [point.instance_count for point in run.efficiency_layers] == [40, 10]
    report = run.report()
    assert "sometimes_post_states 2 of 8 passes" in " ".join(str(report).split())
    assert "sometimes_post_states: <b>2 of 8 passes</b>" in report._repr_html_()
    assert "always_post_states  8" not in str(report)
    assert (report.layers[1].passes, report.layers[1].model_passes) == (2, 8)


def test_passes_count_from_attaching_and_from_resetting():
    model = ts.build_efficiency_model(Skipping(), "Linear")
    assert [point.passes for point in model.efficiency_layers] == [None, None]
    run_passes(model)
    with ts.capture(model, "sometimes") as run:
        run_passes(model, 4)
    assert run["sometimes_post_states"].passes == (1, 4)
    assert [point.passes for point in model.efficiency_layers] == [(12, 12), (3, 12)]
    kept = copy.deepcopy(ts.Run(model.efficiency_layers))
    ts.reset_efficiency_model(model)
    run_passes(model, 3)
    assert [point.passes for point in model.efficiency_layers] == [(3, 3), (1, 3)]
    assert [point.passes for point in kept.values()] == [(12, 12), (3, 12)]
    run_passes(model, 1)
    assert model.efficiency_layers[0].passes == (4, 4)


def test_passes_that_do_not_count():
    model = ts.build_efficiency_model(Skipping(), "Linear")
    model.to("meta")(torch.ones(5, 4, device="meta"))
    assert model.efficiency_layers[0].passes is None


def test_a_part_of_the_model_that_is_called_alone():
    model = ts.build_efficiency_model(Skipping(), "Linear")
    model.always(images(5, 4))
    assert [point.passes for point in model.efficiency_layers] == [None, None]
    run_passes(model, 1)
    model.always(images(5, 4))
    assert [point.passes for point in model.efficiency_layers] == [(1, 1), (1, 1)]
    assert model.efficiency_layers[0].instance_count == 15


def test_a_pass_that_fails_counts():
    model = ts.build_efficiency_model(Skipping(), "Linear")
    model.sometimes.weight.data = torch.ones(4, 3)
    with pytest.raises(RuntimeError):
        model(images(5, 4))
    assert [point.passes for point in model.efficiency_layers] == [(1, 1), (0, 1)]


def test_a_model_that_gets_only_keywords():
    model = ts.build_efficiency_model(Skipping(), "Linear")
    model(x=images(5, 4))
    assert [point.passes for point in model.efficiency_layers] == [(1, 1), (1, 1)]


def test_a_model_that_is_one_layer():
    model = ts.build_efficiency_model(nn.Linear(4, 2), "*", method="both")
    for _ in range(2):
        model(images(5, 4))
    assert [point.passes for point in model.efficiency_layers] == [(2, 2), (2, 2)]


def test_a_layer_that_never_ran():
    model = ts.build_efficiency_model(Skipping(), "sometimes")
    for _ in range(2):
        model(images(5, 4), skip=True)
    with pytest.raises(ts.errors.NothingCaptured, match="ran in none of the model's 2 passes"):
        ts.report(model)
