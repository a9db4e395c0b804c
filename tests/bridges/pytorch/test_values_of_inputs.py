"""Layers that see one number for each input: time steps, weights of samples, losses."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.followed_models import Calls
from tests.support.torch_models import images

GuessedAxisWarning = ts.errors.GuessedAxisWarning
pytestmark = pytest.mark.usefixtures("nothing_compiled_before")


def compiled(model):
    return torch.compile(model, backend="eager")


def plain(model):
    return model


@pytest.fixture(params=[plain, compiled])
def way(request):
    return request.param


GIVEN = {
    "as they are": lambda m, x, t: t,
    "before the others": lambda m, t, x: t,
    "computed": lambda m, x, t: torch.log(t + 1) / 7 - 0.1,
    "one column": lambda m, x, t: (x * t[:, None])[:, 2],
    "sums of inputs": lambda m, x, t: x.sum(1) * t,
}


@pytest.mark.parametrize("how", GIVEN)
def test_each_is_a_state_of_one_neuron(how, way):
    """Not of as many neurons as there are inputs, of which the last batch has fewer."""
    model = Calls(GIVEN[how], fc=nn.Linear(4, 4))
    expected, offset = [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", GuessedAxisWarning)
        with ts.capture(model, "act") as run:
            for size in (4, 2, 5):
                given = [images(size, 4), torch.linspace(-0.9, 0.9, size)]
                with run.labels(range(offset, offset + size)):
                    out = way(model)(*(given[::-1] if how == "before the others" else given))
                expected += (out > 0).tolist()
                offset += size
    act = run["act"]
    assert (act.neurons, act.axis, act.instance_count) == (1, 1, len(expected))
    np.testing.assert_array_equal(act.raw_states, np.uint8(expected)[:, None])
    for label, counts in act.counts_by().items():
        assert (counts.total, counts.packed[0, 0]) == (1, expected[label])


def test_of_a_model_that_is_given_nothing_else_they_are_a_guess(way):
    """They may be the features of a single input."""
    model = Calls(lambda m, x: x, fc=nn.Linear(4, 4))
    with ts.capture(model, "act") as run:
        with pytest.warns(GuessedAxisWarning, match="a guess for act_post_states"):
            way(model)(images(4))
        with pytest.warns(GuessedAxisWarning, match="3 neurons along axis 0"):
            way(model)(images(3))
    assert (run["act"].axis_origin, run["act"].passes) == ("guess", (1, 2))


FEATURES = {
    "beside others of another size": (lambda m, x, others: x, [(4,), (7, 4)]),
    "means of the channels of an image": (
        lambda m, x, others: m.conv(x).mean() + x.mean((1, 2)),
        [(3, 5, 6), (3, 4)],
    ),
}


@pytest.mark.parametrize("how", FEATURES)
def test_the_features_of_an_only_input_are_a_guess(how, way):
    function, shapes = FEATURES[how]
    model = Calls(function, conv=nn.Conv2d(3, 4, 1))
    with pytest.warns(GuessedAxisWarning, match="act_post_states"), ts.capture(model, "act") as run:
        way(model)(*(images(*shape) for shape in shapes))
    assert (run["act"].axis_origin, run["act"].neurons) == ("guess", shapes[0][0])


class Total(nn.Linear):
    """Named as a layer, and nothing of one that makes features."""

    def forward(self, x):
        return torch.from_numpy(super().forward(x).detach().numpy().sum(1))


def test_the_class_of_a_layer_with_a_forward_of_its_own_says_nothing_of_a_single_axis():
    model = nn.Sequential(Total(4, 4))
    with pytest.warns(GuessedAxisWarning, match="0_post_states"), ts.capture(model, "0") as run:
        model(images(3, 4))
    assert run["0"].axis_origin == "guess"


def test_those_that_come_from_elsewhere_are_a_guess():
    """A round trip that nothing follows."""

    def elsewhere(m, x):
        return torch.from_numpy(m.fc(x).detach().numpy().sum(1))

    model = Calls(elsewhere, fc=nn.Linear(4, 4))
    with ts.capture(model, "act") as run:
        with pytest.warns(GuessedAxisWarning, match="a guess for act_post_states"):
            model(images(4, 4))
        with pytest.warns(GuessedAxisWarning, match="3 neurons along axis 0"):
            model(images(3, 4))
    assert (run["act"].axis_origin, run["act"].passes) == ("guess", (1, 2))


SCALES = {"a weight": lambda m, x: m.scale, "of a weight": lambda m, x: m.scale.exp() * 2 - 1}


@pytest.mark.parametrize("how", SCALES)
def test_a_weight_for_each_neuron_is_none(how, way):
    model = Calls(SCALES[how], scale=nn.Parameter(torch.tensor([1.0, -2, 3, -4])))
    with warnings.catch_warnings():
        warnings.simplefilter("error", GuessedAxisWarning)
        with ts.capture(model, "act") as run:
            for size in (4, 2):
                way(model)(images(size, 4))
    assert (run["act"].neurons, run["act"].axis, run["act"].state_count) == (4, 0, 2)


class Score(nn.Module):
    """A graph ends in it, and nothing that is in one sees what it returns."""

    def __init__(self, reduce):
        super().__init__()
        self.fc, self.reduce = nn.Linear(4, 4), reduce

    def forward(self, x):
        sign = 1 if x.sum().item() > 0 else -1
        return self.reduce(self.fc(x) * sign)


REDUCED = {
    "sum": lambda z: z.sum(-1),
    "norm": lambda z: z.norm(dim=1) - 1,
    "product": lambda z: (z * z.flip(1)).sum(1),
}


@pytest.mark.parametrize("how", REDUCED)
def test_behind_a_graph_break(how, way):
    """What a graph knows of neurons that are none any more, the next one knows, too."""
    model = Calls(lambda m, x: m.score(x), score=Score(REDUCED[how]))
    expected = []
    with torch.no_grad(), ts.capture(model, "*") as run:
        for size in (4, 2, 5):
            expected += (way(model)(images(size, 4)) > 0).tolist()
    for name in ("act", "score"):
        point = run[name]
        assert (point.neurons, point.axis, point.axis_origin) == (1, 1, "flow")
    np.testing.assert_array_equal(run["act"].raw_states, np.uint8(expected)[:, None])


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.act = nn.Linear(4, 4), nn.Identity()
        self.scale = nn.Parameter(torch.tensor([1.0, -2, 3, -4]))

    def forward(self, x):
        scale, ids = self.scale * 2, torch.arange(3.0)[:, None] * torch.ones(2)
        total = self.fc(x).sum()
        sign = 1 if total.item() > 0 else -1
        return self.act(scale * 3), self.act(ids - 1), total * sign


def test_weights_and_constants_before_a_graph_break_have_lost_nothing_behind_it(way):
    model = Scaled()
    with warnings.catch_warnings():
        warnings.simplefilter("error", GuessedAxisWarning)
        with torch.no_grad(), ts.capture(model, "*") as run:
            for size in (4, 2):
                way(model)(images(size, 4))
    for name, neurons in {"act": 4, "act:2": 2}.items():
        assert (run[name].axis_origin, run[name].neurons) == ("rule", neurons)
        with pytest.raises(ts.errors.InputsUnknown, match="nothing that counts inputs"):
            run[name].counts(0)


def test_neurons_that_were_lost_before_a_graph_break_are_lost_behind_it():
    model = Calls(lambda m, x: m.score(x), score=Score(lambda z: z.sum(-1)))
    warns = pytest.warns(GuessedAxisWarning, match="lost at sum")
    with torch.no_grad(), warns, ts.capture(model, "*") as run:
        compiled(model)(images(4, 3, 4))
    assert run["act"].axis_origin == "guess"
