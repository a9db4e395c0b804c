"""Where a neuron axis is known from, and what is said of one that is a guess."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu.errors import GuessedAxisWarning
from tests.support.followed_models import Calls, LayerNorm2d
from tests.support.torch_models import images

FC = {"fc": nn.Linear(4, 9)}


@pytest.mark.parametrize(
    ("layer", "shape", "axis", "origin"),
    [
        (nn.Conv2d(3, 5, 3), (2, 3, 9, 8), 1, "layer"),
        (nn.LayerNorm(8), (2, 3, 9, 8), 3, "layer"),
        (nn.MaxPool2d(2), (2, 3, 9, 8), 1, "rule"),
        (LayerNorm2d(3), (2, 3, 9, 8), 1, "flow"),
    ],
)
def test_where_an_axis_is_known_from(layer, shape, axis, origin):
    model = Calls(lambda m, x: m.layer(m.conv(x) if origin == "flow" else x), layer=layer)
    model.conv = nn.Conv2d(3, 3, 1)
    with ts.capture(model, "layer") as run:
        model(images(*shape))
    (point,) = run.efficiency_layers
    assert (point.axis, point.axis_origin) == (axis, origin)
    assert point.attributes()["axis_origin"] == origin
    (row,) = str(run.report()).splitlines()[2:3]
    assert row.split()[1:3] == [str(axis), origin]


class HeadNorm(nn.Module):
    """A norm of each head, as in Qwen 3: neurons are also along the axis of the heads."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5))

    def forward(self, x):
        return x * x.pow(2).mean(-1, keepdim=True).rsqrt() * self.weight


def test_a_norm_of_heads_has_the_axis_that_fits_its_weights():
    model = Calls(lambda m, x: m.norm(m.q(x).view(2, 7, 4, 5)), q=nn.Linear(3, 20), norm=HeadNorm())
    with ts.capture(model, "norm") as run:
        model(images(2, 7, 3))
    (point,) = run.efficiency_layers
    assert (point.axis, point.axis_origin, point.neurons) == (3, "layer", 5)


def test_where_the_axis_is_lost_that_is_said():
    model = Calls(lambda m, x: torch.cdist(m.fc(x), m.fc(x)), **FC)
    with (
        pytest.warns(GuessedAxisWarning, match="act_post_states .lost at cdist"),
        ts.capture(model, "act") as run,
    ):
        model(images(2, 9, 4))  # of as many rows as neurons
    assert run["act_post_states"].axis_origin == "guess"
    assert " 2 guess " in str(run.report())


def test_a_view_in_place_is_named_as_the_cause():
    model = Calls(lambda m, x: m.fc(x).transpose_(1, 2), **FC)
    with (
        pytest.warns(GuessedAxisWarning, match="act_post_states .lost at transpose_"),
        ts.capture(model, "act") as run,
    ):
        model(images(2, 7, 4))
    assert run["act_post_states"].axis_origin == "guess"


def test_a_weight_for_each_position_is_no_norm():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(7))

        def forward(self, x):
            return torch.cdist(x, x[:, :5]) * self.scale[:, None]

    model = Calls(lambda m, x: m.pos(m.fc(x)), pos=Positions(), **FC)
    with pytest.warns(GuessedAxisWarning), ts.capture(model, "pos") as run:
        model(images(2, 7, 4))
    assert run["pos_post_states"].axis_origin == "guess"


def test_all_guesses_of_a_pass_are_one_warning_and_told_once():
    model = nn.Sequential(nn.ReLU(), nn.ReLU())
    with ts.capture(model, "ReLU"):
        with pytest.warns(GuessedAxisWarning) as warned:
            model(images(2, 3, 4))
        model(images(2, 3, 4))
    assert len(warned) == 1
    assert "0_post_states (" in str(warned[0].message)
    assert "1_post_states (" in str(warned[0].message)


def test_a_rule_of_the_layer_before_holds_where_a_layer_ran_unfollowed():
    """The pass in which it first runs comes after those that are followed."""

    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(7, 7)
            self.late = nn.Sequential(nn.Conv1d(3, 5, 1), nn.ReLU())
            self.runs_late = False

        def forward(self, x):
            x = self.first(x)
            return self.late(x) if self.runs_late else x

    model = Late()
    with ts.capture(model, "ReLU") as run, torch.no_grad():
        for late in [*10 * [False], True]:
            model.runs_late = late
            model(torch.randn(4, 3, 7))
    (point,) = run.values()
    assert (point.axis, point.neurons, point.state_count) == (1, 5, 28)


class FlattenedPool2d(nn.Module):
    """Pools, and may flatten, or make tokens of, what it has pooled."""

    def __init__(self, first):
        super().__init__()
        self.first, self.pool = first, nn.AdaptiveAvgPool2d((2, 3))

    def forward(self, x):
        x = self.pool(x).flatten(self.first)
        return x if self.first == 1 else x.mT


@pytest.mark.parametrize("first", [1, 2])
def test_a_layer_that_only_has_the_name_of_pooling(first):
    """Its output with three axes is no unbatched one, with the neurons along axis 0."""
    model = nn.Sequential(FlattenedPool2d(first))
    guessed = pytest.warns(GuessedAxisWarning) if first == 2 else nullcontext()
    with ts.capture(model, "0") as run, guessed:
        model(images(2, 5, 8, 8))
    assert (run["0"].axis, run["0"].neurons) == ((1, 30) if first == 1 else (2, 5))


class Headed(nn.Module):
    """Used by its methods alone, one after the other."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 5, 3), nn.GELU()
        self.last = nn.Linear(5, 2)

    def features(self, x):
        return self.act(self.conv(x)).movedim(1, -1)

    def head(self, x):
        return self.last(self.act(x).flatten(1, 2).mean(1))


def test_what_one_method_returns_is_known_to_the_next():
    model = Headed()
    with ts.capture(model, ["act", "last"]) as run:
        for size in (2, 3):
            features = model.features(images(size, 3, 6, 6))
            run.labels(range(size))
            model.head(features)
    assert run["act"].axis_origin == "flow"
    assert run["act"].state_count == 2 * 5 * 16
    assert run["act"].neurons == 5
    assert run["last"].counts_by().keys() == {0, 1, 2}


class ChannelAttention(nn.Module):
    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True).sigmoid()


def test_a_block_of_images_that_only_has_the_name_of_one_of_tokens():
    model = nn.Sequential(ChannelAttention())
    with ts.capture(model, "0"), pytest.warns(GuessedAxisWarning, match="0_post_states"):
        model(images(2, 5, 8, 8))


def heads(m, x):
    """Without weights, as in Gemma 4."""
    return F.normalize(m.q(x).view(*x.shape[:2], 4, 5), dim=-1)


GUESSES = {  # positions before heads, heads before positions, maps cut from features, streams
    "heads": (heads, 3, "axes 2, 3 hold parts of them"),
    "turned": (lambda m, x: heads(m, x).transpose(1, 2), 3, "axes 1, 3 hold parts of them"),
    "map": (lambda m, x: m.q(x[:, 0]).view(-1, 5, 2, 2), 1, "axes 1, 2, 3 hold parts of them"),
    "streams": (lambda m, x: torch.stack([m.q(x).argsort(-1)] * 2), 3, "lost at argsort"),
}


@pytest.mark.parametrize("how", GUESSES)
def test_a_guess_is_no_axis_of_inputs_or_without_neurons(how):
    """Positions were guessed for heads, and the pass was left out that had others."""
    function, axis, cause = GUESSES[how]
    model = Calls(function, q=nn.Linear(3, 20))
    warns = pytest.warns(GuessedAxisWarning, match=cause)
    with warns as warned, ts.capture(model, "act") as run:
        for inputs, positions in ((2, 7), (3, 8)):
            model(images(inputs, positions, 3))
    assert len(warned) == 1
    assert (run["act"].axis, run["act"].axis_origin) == (axis, "guess")
    assert run["act"].passes == (2, 2)
