"""Loops in public methods of a model: over layers, in one pass, and over steps, each of which is a
pass.
"""

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import images

BLOCKS, STEPS = 3, 2


class SharedActivation(nn.Module):
    """Blocks of several widths share an activation, or a part that has one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Linear(4 + i, 5 + i) for i in range(BLOCKS))
        self.back = nn.Linear(4 + BLOCKS, 4)
        self.act, self.part = nn.ReLU(), nn.Sequential(nn.ReLU(), nn.Flatten())
        self.unused = nn.ReLU()

    def forward(self, x):
        return self.back(self.features(x))

    def features(self, x):
        for block in self.blocks:
            x = self.act(block(x))
        return x

    def features_of_part(self, x):
        for block in self.blocks:
            x = self.part(block(x))
        return x

    def steps(self, x, times):
        for _ in range(times):
            x = self.back(self.features(x))
        return x

    def first(self, x):
        return self.act(self.blocks[0](x))

    def pair(self, x):
        return self.first(x), self.act(self.blocks[0](-x))

    def recurrent(self, x, times):
        for _ in range(times):
            x = self.act(self.back(self.blocks[0](x)[:, 1:].repeat(1, 2)[:, : 4 + BLOCKS]))
        return x


def totals(point):
    return {label: counts.total for label, counts in point.counts_by().items()}


@pytest.mark.parametrize(
    ("method", "layer"), [("features", "act"), ("features_of_part", "part.0"), ("forward", "act")]
)
def test_layers_that_share_an_activation_are_in_one_pass(method, layer):
    model = SharedActivation()
    with ts.capture(model, layer) as run:
        for _ in range(4):  # the first is followed, the others are not
            run.labels([0, 1])
            getattr(model, method)(images(2, 4))
    assert [point.neurons for point in run.values()] == [5, 6, 7]
    assert {point.passes for point in run.values()} == {(4, 4)}
    assert [totals(point) for point in run.values()] == [{0: 4, 1: 4}] * BLOCKS


@pytest.mark.parametrize(
    "others", [[], ["unused"]]
)  # as long as it has not run, passes are followed
def test_steps_around_a_loop_over_layers_are_passes(others):
    model, times = SharedActivation(), 6
    with ts.capture(model, ["act", *others]) as run:
        for _ in range(times):
            with run.labels([0, 1]):
                model.steps(images(2, 4), STEPS)
    points = [point for point in run.values() if point.state_count]
    assert [point.neurons for point in points] == [5, 6, 7]
    assert {point.passes for point in points} == {(times * STEPS, times * STEPS)}
    assert [totals(point) for point in points] == [{0: times * STEPS, 1: times * STEPS}] * BLOCKS


def test_steps_of_the_same_layers_are_passes():
    model = SharedActivation()
    with ts.capture(model, "act") as run:
        for _ in range(3):
            model.recurrent(images(2, 4), STEPS)
    assert [*run] == ["act_post_states"]
    assert run["act"].passes == (3 * STEPS, 3 * STEPS)


def test_a_method_that_calls_a_staged_layer_twice_does_not_fail_in_a_later_pass():
    model, x = SharedActivation(), images(2, 4)
    with ts.capture(model, "act", stage_rows=100) as run:
        model.first(x)
        with pytest.warns(ts.errors.SkippedLayersWarning, match="only their first call.*act"):
            model.pair(x)
    assert run["act"].state_count == 4


class Outer(nn.Module):
    """Wraps a model, as those of transformers do, so that the parts of that one are used, too."""

    def __init__(self, depth):
        super().__init__()
        self.model = Parts() if depth == 1 else Outer(depth - 1)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.model(x))


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        self.decoder = nn.Sequential(nn.Linear(4, 4), nn.ReLU())

    def forward(self, x):
        return self.decoder(self.encoder(x)).mean((1, 2))


@pytest.mark.parametrize("depth", [1, 2])
def test_parts_of_a_model_that_another_wraps_are_followed(depth):
    """Images with channels last: where their neurons are, only layers before tell."""
    model = Outer(depth)
    parts = model.model if depth == 1 else model.model.model
    with ts.capture(model, "ReLU") as run:
        run.labels([0, 1])
        parts.encoder(images(2, 7, 8, 3))
    (encoder, _) = run.values()
    assert (encoder.axis, encoder.axis_origin) == (3, "flow")
    assert totals(encoder) == {0: 56, 1: 56}
