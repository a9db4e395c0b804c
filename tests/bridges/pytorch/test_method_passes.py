"""Public methods that run parts of a model make passes of it, as its forward does."""

import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import expected_rows, images


class Windows(nn.Module):
    """Its first layer is no part with layers; its blocks are called one by one, on windows."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 6, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Dropout(0.0)) for _ in range(2)
        )
        self.head = nn.Linear(6, 3)

    def forward_features(self, x):
        inputs, side = len(x), x.shape[-1] // 2
        x = self.stem(x).view(inputs, 6, 2, side, 2, side)
        x = x.permute(0, 2, 4, 3, 5, 1).reshape(-1, side * side, 6)
        for block in self.blocks:
            x = block(x)
        return x.view(inputs, -1, 6)

    def forward(self, x):
        return self.head(self.forward_features(x).mean(1))

    def sizes(self, x):
        return [*x.shape]

    def failing(self, x):
        self.stem(x)
        raise ArithmeticError

    def in_parts(self, x, size):
        return torch.cat([self.forward_features(part) for part in x.split(size)])

    def scores(self, x, times):
        return [self(x) for _ in range(times)]


@pytest.fixture(autouse=True)
def _all_warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def is_leaf(name, layer):
    return not [*layer.children()]


def facts(run):
    return {
        name: (p.axis, p.axis_origin, p.passes, p.instance_count, p.raw_states.tobytes())
        for name, p in run.items()
    }


def totals(point):
    return {label: counts.total for label, counts in point.counts_by().items()}


@pytest.mark.parametrize("method", ["before", "after"])
def test_a_method_is_a_pass_like_forward(method):
    model = Windows()
    found = {}
    for how in ("forward", "forward_features"):
        with ts.capture(model, is_leaf, method=method, exclude="head*") as run:
            for size in (3, 2):
                run.labels(range(size))
                (model if how == "forward" else model.forward_features)(images(size, 3, 4, 4))
        assert run.instance_count == 5
        assert totals(run["blocks.1.0"]) == {0: 32, 1: 32, 2: 16}
        found[how] = facts(run)
    assert found["forward"] == found["forward_features"]
    assert {origin for _, origin, *_ in found["forward"].values()} <= {"layer", "flow"}


def test_layers_that_a_method_does_not_run_miss_its_passes():
    model = Windows()
    with ts.capture(model, ["stem", "head"]) as run:
        model(images(2, 3, 4, 4))
        model.forward_features(images(2, 3, 4, 4))
    assert (run["stem"].passes, run["head"].passes) == ((2, 2), (1, 2))
    assert run.instance_count == 4


def test_methods_that_run_no_layer_are_no_passes():
    model, x = Windows(), images(2, 3, 4, 4)
    with ts.capture(model, "stem") as run:
        run.labels([0, 1])
        model.sizes(x)
        model.forward_features(x)
        model.sizes(x)
    assert run["stem"].passes == (1, 1)
    assert totals(run["stem"]) == {0: 16, 1: 16}


def test_a_method_that_runs_the_model_on_parts_of_its_inputs():
    model, x = Windows(), images(6, 3, 4, 4)
    for size in (2, 4, 6):
        with ts.capture(model, is_leaf, exclude="head") as run, torch.no_grad():
            for _ in range(2):
                model.in_parts(x, size)
        assert run.instance_count == 12
        np.testing.assert_array_equal(
            run["stem"].raw_states, np.tile(expected_rows(model.stem(x), 1), (2, 1))
        )
        assert run["blocks.0.0"].axis_origin == "layer"


def test_a_method_that_calls_the_model_makes_its_passes():
    model = Windows()
    with ts.capture(model, is_leaf) as run, run.labels([0, 1]):
        model.scores(images(2, 3, 4, 4), 3)
    assert {point.passes for point in run.values()} == {(3, 3)}
    assert totals(run["head"]) == {0: 3, 1: 3}


def test_a_method_that_fails_is_a_pass_that_fails():
    model = Windows()
    fails = pytest.raises(ArithmeticError)
    with fails, ts.capture(model, is_leaf, exclude="head") as points:
        model.forward_features(images(2, 3, 4, 4))
        model.failing(images(3, 3, 4, 4))
    assert points.instance_count == 2
    assert points["stem"].passes == (1, 1)
    model = ts.build_efficiency_model(Windows(), "stem")
    with pytest.raises(ArithmeticError):
        model.failing(images(2, 3, 4, 4))
    model.forward_features(images(2, 3, 4, 4))
    assert model.efficiency_layers[0].passes == (2, 2)


class Translator(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.decoder = nn.Sequential(nn.Linear(4, 5), nn.ReLU())
        self.act = nn.Tanh()

    def forward(self, x, memory):
        return self.act(self.decoder(x + memory))

    def generate(self, x, steps):
        memory = self.encoder(x)
        for _ in range(steps):
            self(x, memory)

    def denoise(self, x, steps):
        """The same layers in each step, of which it takes the gradient."""
        x = self.act(x)
        for _ in range(steps):
            x = x - 0.1 * self.encoder(x)
        return x

    def polish(self, x, steps):
        for _ in range(steps):
            x = self.act(self.act(x) + 1)

    def pairs(self, x, y):
        return self.act(self.encoder(x)), self.act(self.decoder(y))


def test_what_a_method_runs_before_the_model_is_of_its_first_pass():
    model = Translator()
    with ts.capture(model, is_leaf, exclude="act") as run, run.labels([0, 1]):
        for _ in range(2):
            model.generate(images(2, 4), 3)
    passes = {point.passes for name, point in run.items() if name.startswith("encoder")}
    assert passes == {(2, 6)}
    assert {point.passes for name, point in run.items() if "decoder" in name} == {(6, 6)}
    assert run.instance_count == 12
    assert totals(run["encoder.1"]) == {0: 2, 1: 2}


def test_a_loop_in_a_method_makes_passes():
    """Its layers have no capture point for each step, but for each place where they are called."""
    model = Translator()
    with ts.capture(model, is_leaf, exclude="decoder*") as run:
        for _ in range(2):
            model.denoise(images(3, 4), 5)
            model.polish(images(3, 4), 2)
    names = ["encoder.0_post_states", "encoder.1_post_states"]
    assert [*run] == [*names, "act_post_states", "act:2_post_states"]
    assert [point.passes for point in run.values()] == [(10, 14), (10, 14), (6, 14), (4, 14)]
    assert [point.instance_count for point in run.values()] == [30, 30, 18, 12]


class StepsFirst(Translator):
    def score(self, x):
        return self.act(self.encoder(x.transpose(0, 1)))


def test_a_method_whose_layers_have_the_inputs_along_another_axis():
    model = StepsFirst()
    with ts.capture(model, is_leaf, exclude="decoder*") as run:
        for size in (3, 1, 2, 3):
            with run.labels(range(size)):
                model.score(images(size, 5, 4))
    assert run.instance_count == 9
    assert totals(run["encoder.0"]) == {0: 20, 1: 15, 2: 10}


def test_layers_that_a_method_calls_twice_have_two_capture_points():
    model = Translator()
    with ts.capture(model, is_leaf) as run:
        for _ in range(2):
            model.pairs(images(3, 4), images(3, 4, seed=1))
    assert (run["act_post_states"].neurons, run["act:2"].neurons) == (4, 5)
    assert {point.passes for point in run.values()} == {(2, 2)}


def test_a_condition_is_asked_once_for_each_pass_of_a_method():
    model, asked = Windows(), []

    def every_second(model):
        asked.append(model)
        return len(asked) % 2 == 1

    with ts.capture(model, is_leaf, exclude="head", when=every_second) as run:
        for _ in range(4):
            model.forward_features(images(2, 3, 4, 4))
    assert len(asked) == 4
    assert run.instance_count == 4


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Windows()


def test_methods_of_a_part_of_the_model():
    model = Outer()
    with ts.capture(model, is_leaf, exclude="inner.head") as run, run.labels([0, 1]):
        model.inner.forward_features(images(2, 3, 4, 4))
    assert totals(run["inner.blocks.1.0"]) == {0: 16, 1: 16}
    assert run["inner.blocks.1.1"].axis_origin == "flow"


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool, self.fc = ThreadPoolExecutor(1), nn.Linear(4, 5)

    def score(self, x):
        return self.fc(x), self.pool.submit(self.fc, x).result()


def test_threads_that_work_for_a_method_have_its_labels():
    model = Pooled()
    with ts.capture(model, "fc", merge_calls=True) as run, model.pool, run.labels([0, 1]):
        model.score(images(2, 4))
    assert totals(run["fc"]) == {0: 2, 1: 2}


@pytest.mark.parametrize("which", ["model", "method"])
def test_methods_of_compiled_models(which):
    torch.compiler.reset()
    model, x = Windows(), images(2, 3, 4, 4)
    with torch.no_grad(), ts.capture(model, is_leaf) as run:
        for _ in range(2):
            if which == "model":
                torch.compile(model, backend="eager", fullgraph=True)(x)
            else:
                torch.compile(model.forward_features, backend="eager", fullgraph=True)(x)
    expected = np.tile(expected_rows(model.stem(x), 1), (2, 1))
    np.testing.assert_array_equal(run["stem"].raw_states, expected)


class Decorated(Windows):
    """Methods that a decorator has made, and some that cannot be watched."""

    scores = torch.no_grad()(Windows.scores)
    forward_features = torch.no_grad()(Windows.forward_features)

    def odd(self, x):
        return self.stem(x)

    odd.__wrapped__ = len

    def parts(self, x):
        yield self.stem(x)


def test_decorated_methods():
    model, x = Decorated(), images(2, 3, 4, 4)
    with ts.capture(model, is_leaf, exclude="head") as run:
        run.labels([0, 1])
        assert not model.forward_features(x).requires_grad
        model.odd(x)
        for _ in model.parts(x):
            pass
    assert run["stem"].passes == (1, 1)
    assert totals(run["blocks.1.0"]) == {0: 16, 1: 16}
    assert run["stem"].state_count == 96


def test_methods_stay_what_they_are():
    model, x = Windows(), images(2, 3, 4, 4)
    plain, signature = type(model), Windows.forward_features
    with ts.capture(model, is_leaf):
        assert model.forward_features.__wrapped__ is signature
        assert type(pickle.loads(pickle.dumps(model))) is plain
        assert model.in_parts(x, 1).shape == (2, 16, 6)
        assert model.sizes(x=x) == [2, 3, 4, 4]
    assert type(model) is plain


@pytest.mark.parametrize("stage_rows", [None, 1000])
def test_a_monitor_sees_methods(stage_rows):
    """Not only parts with layers of their own: the first layer has none."""
    model, x = Windows(), images(2, 3, 4, 4)
    monitor = ts.StateMonitor(model, ["stem", "blocks.1.0"], every_n_steps=3, stage_rows=stage_rows)
    for _ in range(5):
        model.forward_features(x)
        monitor.step()
    model.eval()  # between two steps that are captured
    model.forward_features(x)
    for phase, times in (("train", 2), ("eval", 1)):
        counts = monitor.counts("stem", phase), monitor.counts("blocks.1.0", phase)
        assert [each.total for each in counts] == [32 * times] * 2
    monitor.remove()
    expected = ts.count_states(expected_rows(model.stem(x), 1), neurons=6)
    assert monitor.counts("stem", "eval") == expected
