"""Watching the public methods of a model changes nothing else that the model does."""

import collections
import dataclasses
import gc
import types
import weakref

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import ignores_torchscript, images


@dataclasses.dataclass
class Node:
    tensor: torch.Tensor
    parent: "Node | None" = None
    depth: int = dataclasses.field(init=False)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.act = nn.Linear(4, 6), nn.Linear(6, 5), nn.ReLU()
        self.part = nn.Sequential(nn.Sequential(self.first))

    def _scores(self, x):
        x = self.act(self.first(x))
        return self.act(self.second(x))

    def forward(self, x, flag=None):
        return self._scores(x)

    def predict(self, x):
        return self._scores(x).argmax(1)

    def step(self, x):
        return self(x).sum()

    def loss(self, x, name=None):
        return x.sum()

    def polish(self, x, steps):
        for _ in range(steps):
            x = self.act(x)
        return x

    def first_part(self, x):
        return self.part(x)

    def first_of(self, batch):
        return self.first(batch["x"])

    def take(self, node):
        return self.first(node.tensor)

    def twice(x):
        return x * 2

    def doubled(self, x):
        return type(self).twice(x)


@pytest.fixture
def model():
    return Classifier()


def every_second(asked):
    def when(model):
        asked.append(model)
        return len(asked) % 2 == 1

    return when


def test_a_layer_that_a_helper_of_a_method_calls_twice_has_two_capture_points(model):
    """The method itself has one place that calls the layer, but the helper has two."""
    with ts.capture(model, "ReLU") as run:
        run.labels([0, 1, 2])
        model.predict(images(3, 4))
    assert [(p.passes, p.neurons) for p in run.values()] == [((1, 1), 6), ((1, 1), 5)]
    assert [p.counts_by()[2].total for p in run.values()] == [1, 1]


@pytest.mark.parametrize("around", ["method", "between"])
def test_a_condition_is_asked_of_passes_not_of_methods_around_or_between_them(model, around):
    asked = []
    with ts.capture(model, "first", when=every_second(asked)) as run:
        for size in (2, 3, 4, 5):
            if around == "method":
                model.step(images(size, 4))
            else:
                model.loss(model(images(size, 4)))
    assert len(asked) == 4
    assert run["first"].instance_count == 6


def test_a_condition_is_asked_of_each_pass_of_a_loop(model):
    """Also after a pass that it refuses, whose layers are called no later in that pass."""
    asked = []
    with ts.capture(model, "act", when=every_second(asked)) as run:
        model.polish(images(3, 6), 5)
    assert len(asked) == 5
    assert run["act"].instance_count == 9
    assert [*run] == ["act_post_states"]


def test_passes_of_methods_that_a_condition_refuses_do_not_end_the_following(model):
    asked = []

    def last(model):
        asked.append(model)
        return len(asked) == 12

    with ts.capture(model, "act", when=last) as run:
        for _ in range(12):
            model.predict(images(3, 4))
    assert {point.axis_origin for point in run.values()} == {"flow"}


@pytest.mark.parametrize("method", ["loss", "predict"])
def test_what_a_method_was_given_is_freed_when_it_ends(model, method):
    with torch.no_grad(), ts.capture(model, "first"):
        given = images(3, 4)
        kept = weakref.ref(given)
        gc.disable()
        try:
            getattr(model, method)(given)
            del given
            assert kept() is None
        finally:
            gc.enable()


def test_arguments_that_contain_themselves_or_lack_attributes(model):
    root = Node(images(2, 4))
    root.parent = Node(images(2, 4), root)
    with ts.capture(model, "first") as run, run.labels([0, 1]):
        model.take(root)
    assert run["first"].passes == (1, 1)


def test_a_function_that_a_class_calls_without_an_object(model):
    with ts.capture(model, "first"):
        assert model.doubled(torch.ones(2)).tolist() == [2, 2]


def test_methods_that_are_replaced_after_a_capture(model, monkeypatch):
    with ts.capture(model, "first"):
        assert model.loss(images(2, 4)).ndim == 0
    monkeypatch.setattr(Classifier, "loss", lambda self, x: self.first(x))
    with ts.capture(model, "first") as run:
        assert model.loss(images(2, 4)).shape == (2, 6)
        monkeypatch.setattr(Classifier, "loss", len)
        assert model.loss(images(2, 4)) == 2
    assert run["first"].passes == (1, 1)


@ignores_torchscript
def test_a_method_that_is_traced_makes_no_pass(model):
    """Neither does it warn of what the hooks ask of traced sizes."""
    with ts.capture(model, "first") as run:
        torch.jit.trace_module(model, {"first_part": images(3, 4)}, check_trace=False)
        model.first_part(images(3, 4))
    assert run["first"].passes == (1, 1)
    assert run["first"].instance_count == 3


def test_names_that_a_method_is_given_leave_flags_to_the_model(model):
    """Kinds of passes that flags tell apart are limited, for each method by itself."""
    limit, kinds = 32, set()
    with ts.capture(model, "first") as run:
        passes = run["first"].followed_passes
        for i in range(limit + 1):
            model.loss(images(2, 4), f"name_{i}")
        model.first.register_forward_hook(lambda *_: kinds.add(passes.current.signature))
        for flag in ("causal", "full"):
            model(images(2, 4), flag)
    assert len(kinds) == 2


class Loading(collections.abc.Mapping):
    """A mapping that loads what it returns, as an open file does."""

    def __init__(self):
        self.loaded = []

    def __getitem__(self, name):
        self.loaded.append(name)
        return images(2, 4)

    def __iter__(self):
        return iter(["x", "y"])

    def __len__(self):
        return 2


class Held(Loading):
    """One that holds what it returns."""

    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def __getitem__(self, name):
        return self.parts[name]


def test_mappings_that_load_what_they_return_are_not_read():
    model, given = Classifier(), Loading()
    with ts.capture(model, "first"):
        model.loss(torch.ones(1), given)
        assert given.loaded == []
        model.first_of(given)
    assert given.loaded == ["x"]


@pytest.mark.parametrize("kind", [dict, types.MappingProxyType, collections.UserDict, Held])
def test_what_mappings_hold_is_known(kind):
    model = Classifier()
    with ts.capture(model, "first") as run:
        run.labels([0, 1, 2])
        model.first_of(kind({"x": images(3, 4)}))
    assert [counts.total for counts in run["first"].counts_by().values()] == [1, 1, 1]
    assert run["first"].passes == (1, 1)
