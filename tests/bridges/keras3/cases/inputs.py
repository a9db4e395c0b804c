"""Which input of the model a row belongs to: known, or said to be unknown; each counted once."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tensorstate_gpu as ts
from tests.bridges.keras3.cases.models import BACKEND

X = np.random.default_rng(0).normal(size=(6, 6, 4)).astype("float32")
Y = np.arange(6) % 2


def array(tensor):
    return keras.ops.convert_to_numpy(tensor).copy()


class Folded(keras.Model):
    """Its first layer sees the positions of all inputs along axis 0."""

    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(4, name="inner")
        self.out = layers.Dense(3, name="out")

    def call(self, x):
        x = self.inner(ops.reshape(x, (-1, 4)))
        return self.out(ops.reshape(x, (-1, 24)))


@pytest.mark.each_process
def test_inputs_along_with_positions_are_unknown():
    model = Folded()
    model(X)
    rows = ts.compress_states(array(model.inner(X)))
    for keep in ("states", "counts"):
        with ts.capture(model, ["inner", "out"], keep=keep) as run, run.labels(Y):
            model.predict(X, batch_size=6, verbose=0)
        assert run["inner"].histogram() == ts.count_states(rows, 4)
        assert run.instance_count == run["inner"].instance_count == 6
        assert {label: c.total for label, c in run["out"].counts_by().items()} == {0: 3, 1: 3}
        with pytest.raises(ts.errors.InputsUnknown, match="axis 0 is longer than there are inputs"):
            run["inner"].counts_by()


@pytest.mark.parametrize("steps", [6, 5])
def test_the_graph_tells_that_time_comes_first(steps):
    inputs = keras.Input((steps, 4))
    first = layers.Dense(4, name="time_first")(ops.transpose(inputs, (1, 0, 2)))
    model = keras.Model(inputs, layers.Dense(3, name="out")(ops.transpose(first, (1, 0, 2))))
    with ts.capture(model, ["time_first", "out"]) as run:
        model.predict(X[:, :steps], verbose=0)
    assert run.instance_count == 6
    assert run["out"].histogram(Y == 1).total == 3 * steps
    with pytest.raises(ts.errors.InputsUnknown, match="axis 0 does not count the inputs"):
        run["time_first"].histogram(Y == 1)


class Mapped(keras.Model):
    """Maps a layer over the inputs."""

    def __init__(self, over):
        super().__init__()
        self.inner = layers.Dense(4, name="inner")
        self.inner.build((None, 4))
        self.over = over

    def call(self, x):
        return self.over(self.inner, x)


@pytest.mark.each_process
def test_what_is_mapped_over_inputs_is_captured_once():
    model = Mapped(ops.map)
    rows = ts.compress_states(array(model(X)))
    with ts.capture(model, "inner") as run:
        model.predict(X, batch_size=4, verbose=0)
    np.testing.assert_array_equal(run["inner"].raw_states, rows)


@pytest.mark.each_process
def test_what_is_mapped_at_once():
    model = Mapped(ops.vectorized_map)
    rows = ts.compress_states(array(model(X)))
    with ts.capture(model, "inner") as run:
        if BACKEND != "jax":
            with pytest.raises((TypeError, ValueError), match=r"inside t.*vectorized_map|vmap"):
                model.predict(X, batch_size=4, verbose=0)
            return
        model.predict(X, batch_size=4, verbose=0)
    np.testing.assert_array_equal(run["inner"].raw_states, rows)


def behind_a_last_step(x):
    return ops.transpose(layers.Lambda(lambda y: ops.transpose(y, (1, 0, 2)))(x), (1, 0, 2))


TABLE = np.random.default_rng(0).normal(size=(2, 4)).astype("float32")
# what changes the order of the inputs, and what does not
REORDERED = {
    "flipped": (lambda x: ops.flip(x, axis=0), False),
    "rolled": (lambda x: ops.roll(x, 1, axis=0), False),
    "sorted": (lambda x: ops.sort(x, axis=0), False),
    "taken": (lambda x: ops.take(x, ops.argsort(x[:, 0, 0]), axis=0), False),
    "taken by some": (lambda x: ops.take_along_axis(x, ops.argsort(x, axis=0), axis=0), False),
    "in a nested model": (lambda x: flipping()(x), False),
    "time first": (layers.Lambda(lambda x: ops.transpose(x, (1, 0, 2))), False),
    "flipped in time": (lambda x: ops.flip(x, axis=1), True),
    "sorted in time": (lambda x: ops.sort(x, axis=-2), True),
    "there and back": (behind_a_last_step, True),
    "taken of a table": (lambda x: ops.take(TABLE, ops.cast(x > 0, "int32")[..., 0], axis=0), True),
    "joined": (lambda x: ops.concatenate([x, ops.flip(x, axis=0)], axis=-1), True),
}


def flipping():
    inputs = keras.Input((None, 4))
    return keras.Model(inputs, layers.ReLU()(ops.flip(inputs, axis=0)))


@pytest.mark.parametrize("way", REORDERED)
def test_inputs_in_another_order_are_unknown(way):
    reorder, are_known = REORDERED[way]
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, layers.Dense(3, name="out")(reorder(layers.Dense(4)(inputs))))
    with ts.capture(model, "out") as run:
        model.predict(X, batch_size=6, verbose=0)
    assert run.instance_count == 6
    if are_known:
        assert {label: c.total for label, c in run["out"].counts_by(Y).items()} == {0: 18, 1: 18}
        return
    with pytest.raises(ts.errors.InputsUnknown, match="axis 0 does not count the inputs"):
        run["out"].counts_by(Y)
