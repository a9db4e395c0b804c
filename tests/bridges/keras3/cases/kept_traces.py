"""What JAX has traced of code in layers before a capture, and keeps."""

import functools
from contextlib import nullcontext

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.keras3.kept_traces import code_keeps_traces
from tests.bridges.keras3.cases.models import BACKEND
from tests.support.samples import thinned

pytestmark = [
    pytest.mark.each_process,
    pytest.mark.skipif(BACKEND != "jax", reason="is about traces of JAX"),
]
X = np.random.default_rng(0).normal(size=(7, 4)).astype("float32")
Y = X[:, :3]
PREDICT = {"predict": lambda model: model.predict(X, batch_size=3, verbose=0)}
WAYS = PREDICT | {
    "fit": lambda model: model.fit(X, Y, batch_size=3, shuffle=False, verbose=0),
    "evaluate": lambda model: model.evaluate(X, Y, batch_size=3, verbose=0),
    "train_on_batch": lambda model: model.train_on_batch(X, Y),
    "called": lambda model: model(X),
}


class Inner(layers.Layer):
    """Calls a layer in a function that JAX has traced."""

    def __init__(self, relu=None):
        import jax

        super().__init__(name="inner")
        self.relu = layers.ReLU(name="relu") if relu is None else relu
        self.function = jax.jit(lambda x: self.relu(x))

    def call(self, x):
        return self.function(x)


class Without(layers.Layer):
    """Keeps nothing by itself."""

    def __init__(self):
        super().__init__(name="inner")
        self.relu = layers.ReLU(name="relu")

    def call(self, x):
        return self.relu(x)


def in_jit():
    return Inner()


def in_jit_of_the_layer():
    import jax

    class OfLayer(Without):
        def call(self, x):
            return jax.jit(self.relu)(x)

    return OfLayer()


def in_jit_of_a_method():
    import jax

    class Method(Without):
        @functools.partial(jax.jit, static_argnums=0)
        def call(self, x):
            return self.relu(x)

    return Method()


def given_a_jit():
    import jax

    class Given(Without):
        def call(self, x):
            return self.given(x)

    inner = Given()
    inner.given = jax.jit(lambda x: inner.relu(x))
    return inner


def in_a_branch():
    import jax

    class Branch(Without):
        def call(self, x):
            return jax.lax.cond(x[0, 0] < 1e9, self.relu, abs, x)

    return Branch()


@functools.cache
def compiled():
    import jax

    return jax.jit(lambda layer, x: layer(x), static_argnums=0)


def run_compiled(layer, x):
    return compiled()(layer, x)


def in_a_function_of_the_module():
    class ModuleScan(Without):
        def call(self, x):
            return run_compiled(self.relu, x)

    return ModuleScan()


def in_stateless_call():
    import jax

    class Stateless(Inner):
        def __init__(self):
            super().__init__(layers.Dense(4, activation="relu", name="relu"))
            self.relu.build((None, 4))
            self.function = jax.jit(lambda values, x: self.relu.stateless_call(values, [], x)[0])

        def call(self, x):
            return self.function([each.value for each in self.relu.trainable_variables], x)

    return Stateless()


KINDS = [
    in_jit,
    in_jit_of_the_layer,
    in_jit_of_a_method,
    given_a_jit,
    in_a_function_of_the_module,
    in_a_branch,
    in_stateless_call,
]


class Model(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.last = inner, layers.Dense(3, name="last")

    def call(self, x, training=None):
        return self.last(self.inner(x))


def model_with(inner):
    model = Model(inner)
    model.compile("sgd", "mse")
    return model


def counts(run):
    return {point.name: point.state_count for point in run.values()}


def check_each_run(model, way):
    for _ in range(2):
        with ts.capture(model, ["inner/relu", "last"]) as run:
            way(model)
        way(model)
        assert counts(run) == {"inner/relu_states": 7, "last_states": 7}


@pytest.mark.parametrize("is_built", thinned([False, True], [True]))
@pytest.mark.parametrize("way", WAYS)
def test_functions_are_traced_for_the_capture(way, is_built):
    """Keras builds a model by what JAX would keep, and without captures."""
    model = model_with(in_jit())
    if is_built:
        WAYS[way](model)
    check_each_run(model, WAYS[way])


@pytest.mark.parametrize("way", thinned(["predict", "called"], ["predict"]))
@pytest.mark.parametrize("kind", KINDS[1:])
def test_whatever_keeps_the_trace(kind, way):
    model = model_with(kind())
    WAYS[way](model)
    check_each_run(model, WAYS[way])


def test_layers_in_code_of_a_functional_model():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3, name="last")(in_jit()(inputs)))
    for way in ("predict", "called"):
        WAYS[way](model)
        check_each_run(model, WAYS[way])


@pytest.mark.parametrize("way", ["predict", "called"])
def test_captures_of_the_same_layers(way):
    """Each gets the rows, whichever is there when JAX traces, and whichever ends first."""
    model = model_with(in_jit())
    WAYS[way](model)
    with ts.capture(model, "inner/relu") as outer:
        WAYS[way](model)
        with ts.capture(model, "inner/relu") as inner:
            WAYS[way](model)
        WAYS[way](model)
    WAYS[way](model)
    assert [*counts(outer).values(), *counts(inner).values()] == [21, 7]


def test_passes_that_are_not_captured():
    """A trace of one kind of pass is not taken for the other."""
    model = model_with(in_jit())
    for when, first in (("train", True), ("eval", True), ("train", False)):
        with ts.capture(model, "inner/relu", when=when) as run:
            model(X, training=first)
            model(X, training=not first)
            model(X, training=first)
        assert counts(run) == {"inner/relu_states": 14 if first == (when == "train") else 7}


def test_rows_are_those_of_the_layer():
    model = model_with(in_stateless_call())
    model.predict(X, verbose=0)
    with ts.capture(model, "inner/relu") as run:
        model.predict(X, batch_size=3, verbose=0)
    expected = ts.compress_states(np.asarray(model.inner.relu(X)))
    np.testing.assert_array_equal(run["inner/relu_states"].raw_states, expected)


def test_a_function_keeps_its_trace():
    """It is what the model had before, and nothing of the capture stays in it."""
    import jax

    traced = []
    inner = Inner()
    inner.function = jax.jit(lambda x: (traced.append(x), inner.relu(x))[1])
    model = model_with(inner)
    model(X)
    before = len(traced)
    with ts.capture(model, "inner/relu"):
        model(X)
    during = len(traced)
    model(X)
    assert before < during == len(traced)


def test_only_code_that_keeps_traces_is_found():
    """Eagerly, each operation of JAX is a function that it keeps: compiling all takes seconds."""
    assert all(code_keeps_traces(model_with(kind())) for kind in KINDS)
    assert not code_keeps_traces(model_with(Without()))
    assert not code_keeps_traces(model_with(layers.Dense(3, name="inner")))


def test_a_model_trains_as_without_captures():
    trained = []
    for captures in (False, True):
        keras.utils.set_random_seed(0)
        model = model_with(in_stateless_call())
        model(X)
        with ts.capture(model, ["inner/relu", "last"]) if captures else nullcontext():
            WAYS["fit"](model)
        trained.append(model.get_weights())
    for bare, captured in zip(*trained, strict=True):
        np.testing.assert_allclose(bare, captured, rtol=2e-5, atol=2e-6)
