"""Passes with other flags, in another mode, or without inputs may have their axes elsewhere."""

import contextlib
import dataclasses
import enum
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.pytorch import followed_passes
from tests.support.followed_models import Calls
from tests.support.torch_models import expected_rows, images


class Layout(enum.Enum):
    LAST, FIRST = "last", "first"


@pytest.fixture
def followed(monkeypatch):
    """The calls of passes that are followed."""
    calls = []

    class Counted(followed_passes.AxisFlow):
        def __init__(self, frame):
            calls.append(frame)
            super().__init__(frame)

    monkeypatch.setattr(followed_passes, "AxisFlow", Counted)
    return calls


class Turning(nn.Module):
    """Eight neurons and eight positions, which change places by what forward() is told."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.act = nn.Linear(4, 8), nn.ReLU()

    def forward(self, x, turned=False, layout=Layout.LAST, way="plain"):
        is_turned = turned or layout is Layout.FIRST or way == "turned" or self.training
        return self.act(self.fc(x).mT if is_turned else self.fc(x))


PLAIN = {"turned": False}
TURNED = [
    {"turned": True},
    {"turned": 2},
    {"layout": Layout.FIRST},
    {"way": "turned"},
    "positional",
    "training",
]


@pytest.mark.parametrize("how", TURNED, ids=str)
@pytest.mark.parametrize("turned_first", [False, True])
def test_flags_and_the_mode_may_move_neurons(how, turned_first):
    model, x = Turning(), images(3, 8, 4)
    expected = expected_rows(model.fc(x), 2)
    with ts.capture(model, "act") as run:
        for is_turned in (turned_first, not turned_first, turned_first):
            model.train(is_turned and how == "training")
            arguments = (x, True) if is_turned and how == "positional" else (x,)
            model(*arguments, **(how if is_turned and isinstance(how, dict) else {}))
    np.testing.assert_array_equal(run["act"].raw_states, np.tile(expected, (3, 1)))


def test_names_that_are_data_do_not_slow_down_all_passes(followed):
    model, x = Turning().eval(), images(3, 8, 4)
    with ts.capture(model, "act") as run:
        for i in range(50):
            model(x, way=f"of_user_{i}")
    assert len(followed) <= 33
    np.testing.assert_array_equal(
        run["act"].raw_states, np.tile(expected_rows(model.fc(x), 2), (50, 1))
    )


def through_numpy(m, x, fast):
    y = m.fc(x).mT
    return torch.from_numpy(y.detach().numpy().copy()) if fast else y


@pytest.mark.parametrize("positions", [7, 6])
def test_an_axis_that_is_lost_in_some_passes_is_that_of_others(positions):
    model, x = Calls(through_numpy, fc=nn.Linear(4, 6)), images(2, positions, 4)
    with warnings.catch_warnings(), ts.capture(model, "act") as run:
        warnings.simplefilter("error")
        for fast in (False, True, True):
            model(x, fast)
    assert run["act"].axis_origin == "flow"
    expected = np.tile(expected_rows(model.fc(x), 2), (3, 1))
    np.testing.assert_array_equal(run["act"].raw_states, expected)


@pytest.mark.filterwarnings("ignore::tensorstate_gpu.errors.GuessedAxisWarning")
def test_an_axis_that_is_guessed_says_what_is_known():
    model = Calls(through_numpy, fc=nn.Linear(4, 6))
    message = r"act_post_states \(no torch functions lead to it from a layer with weights\)"
    with ts.capture(model, "act"), pytest.warns(ts.errors.GuessedAxisWarning, match=message):
        model(images(2, 7, 4), True)


@dataclasses.dataclass
class Size:
    kind: str
    width: int


class Sized(Size, enum.Enum):
    """Its members have no hash."""

    SMALL, LARGE = ("one", 1), ("one", 2)


class Odd(str):
    __hash__ = None

    def isidentifier(self):
        raise ArithmeticError("a method of the user")


@pytest.mark.parametrize(
    "values", [tuple(Sized), (Odd("small"), Odd("large"))], ids=["enum", "str"]
)
def test_flags_that_have_no_hash(values):
    model, x = (
        Calls(lambda m, x, f: m.fc(x).mT if f == values[1] else m.fc(x), fc=nn.Linear(4, 7)),
        images(3, 7, 4),
    )
    with ts.capture(model, "act") as run:
        for value in values:
            model(x, value)
    np.testing.assert_array_equal(
        run["act"].raw_states, np.tile(expected_rows(model.fc(x), 2), (2, 1))
    )


class Silent(Turning):
    """Returns nothing, or fails."""

    def forward(self, x, way, fails):
        super().forward(x, way=way)
        if fails:
            raise ArithmeticError


@pytest.mark.parametrize("fails", [False, True])
def test_passes_without_an_output_are_kinds_too(fails):
    """Of which there are not more and more."""
    model = Silent().eval()
    with ts.capture(model, "act") as run:
        for i in range(50):
            with contextlib.suppress(ArithmeticError):
                model(images(3, 8, 4), f"of_user_{i}", fails)
    assert len(run["act"]._found) <= 33


def test_passes_that_return_nothing_are_not_followed_again_and_again(followed):
    model = Silent()
    with ts.capture(model, "act"):
        try:
            raise ArithmeticError  # which the program handles while it runs the model
        except ArithmeticError:
            for _ in range(3):
                model(images(3, 8, 4), "plain", False)
        assert len(followed) == 1
        for _ in range(3):
            with contextlib.suppress(ArithmeticError):
                model(images(2, 3, 8, 4), "plain", True)
        assert len(followed) == 4


@pytest.mark.parametrize("positions", [7, 6])
def test_a_guess_that_later_passes_contradict_does_not_break_them(positions):
    """Not even where there are as many positions as neurons, whose rows would be mixed."""
    model, x = Calls(through_numpy, fc=nn.Linear(4, 6)), images(2, positions, 4)
    warns = pytest.warns(ts.errors.GuessedAxisWarning)
    with warns as seen, ts.capture(model, "*") as run:
        for fast in (True, False, False, True):
            model(x, fast)
    assert len(seen) == 2
    assert "act_post_states (6 neurons along axis 1 (flow))" in str(seen[1].message)
    assert (run["fc"].passes, run["act"].passes) == ((4, 4), (2, 4))
    expected = np.tile(expected_rows(model.fc(x).mT), (2, 1))
    np.testing.assert_array_equal(run["act"].raw_states, expected)
    assert "act_post_states 2 of 4 passes" in " ".join(str(run.report()).split())


def test_a_guessed_axis_that_changes_its_size_does_not_break_a_pass():
    model = Calls(through_numpy, fc=nn.Linear(4, 6))
    warns = pytest.warns(ts.errors.GuessedAxisWarning)
    with warns as seen, ts.capture(model, "act") as run:
        for positions in (7, 5, 7):
            model(images(2, positions, 4), True)
    assert len(seen) == 2
    assert (run["act"].passes, run["act"].state_count) == ((2, 3), 24)


def test_neurons_that_move_with_a_size_do_not_break_a_pass():
    """The first such pass is left out; the next ones are right."""
    model = Calls(lambda m, x: m.fc(x).mT if x.shape[1] > 5 else m.fc(x), fc=nn.Linear(4, 6))
    expected = []
    warns = pytest.warns(ts.errors.GuessedAxisWarning, match=r"act_post_states \(7 neurons along")
    with warns as seen, ts.capture(model, "act") as run:
        for positions in (4, 7, 7, 4, 7):
            model(images(2, positions, 4))
            expected.append(expected_rows(model.fc(images(2, positions, 4))))
    assert len(seen) == 1
    assert run["act"].passes == (4, 5)
    del expected[1]
    np.testing.assert_array_equal(run["act"].raw_states, np.concatenate(expected))


def test_a_layer_without_a_fixed_number_of_neurons_does_not_break_a_pass():
    model = Calls(lambda m, x: torch.cat([m.fc(x)] * x.shape[1], -1), fc=nn.Linear(4, 6))
    warns = pytest.warns(ts.errors.GuessedAxisWarning, match="not always as many")
    with warns as seen, ts.capture(model, "act") as run:
        for positions in (3, 4, 4, 3):
            model(images(2, positions, 4))
    assert len(seen) == 1
    assert (run["act"].neurons, run["act"].passes) == (18, (2, 4))


@pytest.mark.parametrize("positions", [7, 6])
@pytest.mark.parametrize("is_reset", [False, True])
def test_a_stage_takes_no_rows_that_contradict_its_guess(is_reset, positions):
    model, x = Calls(through_numpy, fc=nn.Linear(4, 6)), images(2, positions, 4)
    warns = pytest.warns(ts.errors.GuessedAxisWarning)
    with warns as seen, ts.capture(model, "act", stage_rows=100) as run:
        model(x, True)
        if is_reset:
            run.reset()
        model(x, False)
        model(images(2, 5, 4), True)
        model(x, True)
    assert len(seen) == 2
    expected = np.tile(expected_rows(model.fc(x).mT), (1 if is_reset else 2, 1))
    np.testing.assert_array_equal(run["act"].raw_states, expected)


@pytest.mark.filterwarnings("ignore::tensorstate_gpu.errors.GuessedAxisWarning")
def test_a_layer_that_is_reset_forgets_a_guess():
    model, x = Calls(through_numpy, fc=nn.Linear(4, 6)), images(2, 7, 4)
    with ts.capture(model, "act") as run:
        model(x, True)
        model(x, False)
        run["act"].reset_states()
        for fast in (False, True):
            model(x, fast)
    expected = np.tile(expected_rows(model.fc(x), 2), (2, 1))
    np.testing.assert_array_equal(run["act"].raw_states, expected)


def test_a_guess_is_said_once_for_all_kinds_of_passes():
    model = Calls(lambda m, x, *flags: torch.cdist(m.fc(x), m.fc(x)), fc=nn.Linear(4, 9))
    with warnings.catch_warnings(record=True) as seen, ts.capture(model, "act"):
        warnings.simplefilter("always")
        for flag in (False, True):
            model(images(2, 7, 4), flag)
    assert [each.category for each in seen] == [ts.errors.GuessedAxisWarning]


def test_a_first_pass_without_inputs_tells_nothing_of_others():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(24, 5))
    with ts.capture(model, "*") as run:
        for size in (0, 3, 2):
            with run.labels(range(size)):
                model(images(size, 3, 2, 3))
    assert run.instance_count == 5
    for name, each in (("0", 6), ("1", 1), ("2", 1)):
        counts = run[name].counts_by()
        assert {label: c.total for label, c in counts.items()} == {
            0: 2 * each,
            1: 2 * each,
            2: each,
        }


class OfGraphs(nn.Module):
    """Is given a table before the inputs, which are as many as there are labels."""

    def __init__(self):
        super().__init__()
        self.fc, self.act = nn.Linear(4, 5), nn.ReLU()

    def forward(self, *, table, x):
        return self.act(self.fc(x).transpose(0, 1) + table.mean())


def test_labels_tell_which_of_several_tensors_counts_the_inputs():
    model = OfGraphs()
    with ts.capture(model, "*") as run:
        for size in (3, 2):
            with run.labels(range(size)):
                model(table=images(9, 2), x=images(size, 7, 4))
    assert run.instance_count == 5
    for name in ("fc", "act"):
        counts = run[name].counts_by()
        assert {label: each.total for label, each in counts.items()} == {0: 14, 1: 14, 2: 7}


def test_bags_of_words_are_inputs_as_their_labels_tell():
    model = Calls(
        lambda m, words, starts: m.fc(m.bags(words, starts)),
        bags=nn.EmbeddingBag(20, 6),
        fc=nn.Linear(6, 3),
    )
    words, starts = torch.arange(14), torch.tensor([0, 3, 9])
    with ts.capture(model, "*") as run, run.labels([0, 1, 1]):
        output = model(words, starts)
    assert run.instance_count == 3
    assert {label: each.total for label, each in run["fc"].counts_by().items()} == {0: 1, 1: 2}
    np.testing.assert_array_equal(run["act"].raw_states, expected_rows(output))


class Contrast(nn.Module):
    """As many logits as there are inputs: a layer without a fixed number of neurons."""

    def __init__(self):
        super().__init__()
        self.fc, self.logits = nn.Linear(5, 7), nn.Identity()

    def forward(self, x):
        h = self.fc(x)
        return self.logits(h @ h.T)


@pytest.mark.parametrize("sizes", [(4, 4, 1), (1, 4, 4), (4, 1, 4), (4, 4, 3)], ids=str)
@pytest.mark.filterwarnings("ignore:.*neuron")
def test_a_batch_of_one_input_with_another_number_of_neurons_is_left_out(sizes):
    model = Contrast()
    with ts.capture(model, "*") as run, torch.no_grad():
        for size in sizes:
            model(torch.randn(size, 5))
    layer = run["logits_post_states"]
    assert layer.neurons == sizes[0]
    assert layer.state_count == sum(size for size in sizes if size == sizes[0])
