"""Layers in which nothing fires: reports name them, and tell whether they have numbers at all."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu import testing
from tensorstate_gpu._arrays.dlpack import borrow
from tensorstate_gpu._arrays.elements import ELEMENT_TYPES
from tensorstate_gpu._states.not_a_number import count_nan
from tests.support.points import point_of_bits


def network(weight: float) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    nn.init.constant_(model[1].weight, weight)
    nn.init.constant_(model[1].bias, -1.0)
    return model


def reported(model, x, **options):
    with ts.capture(model, "1", **options) as run:
        model(x)
        model(torch.ones(2, 3))
    return run


@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize(
    ("weight", "text"),
    [
        (math.nan, "1_post_states       never fires: 100.0 % of its first batch are NaN"),
        (0.0, "1_post_states       never fires"),
        (math.inf, None),
    ],
)
def test_reports_name_layers_that_never_fire(weight, text, keep):
    model = network(weight)
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias.fill_(1.0)
    run = reported(model, torch.ones(5, 3), keep=keep)
    assert [line for line in str(run.report()).splitlines() if "never" in line] == [
        *filter(None, [text])
    ]
    (layer,) = run.report().layers
    assert (layer.fires, layer.nan) == (text is None, float(math.isnan(weight)))
    assert ("never fires" in run.report()._repr_html_()) is (text is not None)
    assert copy.deepcopy(run).report() == run.report()
    run.reset()
    assert run["1_post_states"].nan_share == 0.0


def test_many_layers_that_never_fire_have_one_line():
    silent = [point_of_bits(f"silent_{i}", np.zeros((10, 3), bool)) for i in range(40)]
    alike = point_of_bits("alike", np.ones((10, 3), bool) & [True, False, True])
    report = ts.Run([silent[0], alike, *silent[1:]]).report()
    assert report.summary()[1:] == [
        (
            "40 layers, each",
            f"never fires: {', '.join(f'silent_{i}' for i in range(12))} and 28 more",
        ),
        ("alike", "is always in the same state"),
    ]
    assert "silent_39 " in str(report)  # in the table


def test_a_part_of_the_first_batch():
    x = torch.ones(4, 3)
    x[0] = math.nan
    run = reported(network(0.0), x)
    assert run["1_post_states"].nan_share == 0.25
    assert "never fires: 25.0 % of its first batch are NaN" in str(run.report())


def test_later_batches_that_fire():
    model = nn.Sequential(nn.Identity(), nn.Identity())
    run = reported(model, torch.full((4, 3), math.nan))
    assert run.report().layers[0].fires
    assert "NaN" not in str(run.report())


def test_a_stored_layer_that_never_fires(tmp_path):
    reported(network(math.nan), torch.ones(5, 3), storage_path=tmp_path / "run")
    assert "never fires" in str(ts.report(ts.Store(tmp_path / "run")))


@pytest.mark.parametrize("name", ELEMENT_TYPES)
def test_nan_of_every_format(name):
    if not hasattr(torch, name):
        pytest.skip("torch has no such type")
    if name == "bool":
        assert count_nan(borrow(torch.ones(3, 2, dtype=torch.bool), "states")) == 0
        return
    size = ELEMENT_TYPES[name].size
    bits = np.array([*testing.special_bits(name), *range(200)], f"u{size}")
    tensor = torch.from_numpy(bits.view(f"i{size}")).view(getattr(torch, name)).view(1, -1)
    expected = int(tensor.double().isnan().sum())
    assert (expected > 0) == (ELEMENT_TYPES[name].kind == "float")
    assert int(count_nan(borrow(tensor, "states"))) == expected


def test_layers_that_are_always_in_one_state_are_told(capsys):
    class Ends(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.softmax, self.square = nn.Linear(4, 3), nn.Softmax(1), nn.Identity()

        def forward(self, x):
            y = self.linear(x)
            return self.softmax(y), self.square(torch.cat([y**2 + 1, -(y**2)], 1))

    torch.manual_seed(0)
    model = Ends()
    with ts.capture(model, "*") as run:
        model(torch.randn(20, 4))
    report = run.report(accuracy=0.5)
    assert (report.network_efficiency, report.aiq) == (0, 0)
    assert report.varying_efficiency == run["linear"].efficiency()
    assert report["softmax"].always_fires
    assert not report["square"].always_fires
    lines = dict(report.summary())
    assert (
        lines["softmax_post_states"]
        == "all neurons always fire: exclude= it, or choose a threshold="
    )
    assert lines["square_post_states"] == "is always in the same state"
    assert lines["without constant layers"] == f"{100 * report.varying_efficiency:.1f} %"
    assert repr(report) == str(report)
    with ts.capture(model, "*", exclude=["softmax", "square"]) as run:
        model(torch.randn(20, 4))
    assert run.report().varying_efficiency is None
