"""Layers that loops of the code of a model, or of recurrent layers, call in each step."""

import copy
import pickle

import keras
import numpy as np
import pytest
from keras import layers, ops

import tensorstate_gpu as ts

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4)).astype("float32")
SEQUENCES = RNG.normal(size=(4, 6, 3)).astype("float32")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor).copy()


class TwoLoops(keras.Model):
    """Calls a recurrent layer twice, and another one at each position."""

    def __init__(self):
        super().__init__()
        self.loop = layers.RNN(layers.SimpleRNNCell(3, name="cell"), return_sequences=True)
        self.loop.name = "loop"
        self.each = layers.TimeDistributed(layers.Dense(2, name="dense"), name="each")

    def call(self, x):
        return self.each(self.loop(self.loop(x)))


@pytest.mark.each_process
@pytest.mark.parametrize("eagerly", [False, True])
def test_steps_of_a_loop_share_a_capture_point(eagerly):
    model = TwoLoops()
    model.compile("sgd", "mse", run_eagerly=eagerly)
    first = array(model.loop(SEQUENCES))
    second = array(model.loop(first))
    with ts.capture(model, ["*cell", "*dense"]) as run:
        model.predict(SEQUENCES, verbose=0)
        model.fit(SEQUENCES, np.ones((4, 6, 2)), shuffle=False, verbose=0)
    assert [*run] == ["loop/cell_states", "loop/cell:2_states", "each/dense_states"]
    assert {point.state_count for point in run.values()} == {2 * 4 * 6}
    for point, steps in zip(run.values(), (first, second), strict=False):
        rows = ts.compress_states(np.ascontiguousarray(steps.swapaxes(0, 1)))
        np.testing.assert_array_equal(point.raw_states[:24], rows)


def by_fori_loop(step, x):
    return ops.fori_loop(0, 3, lambda _, x: step(x), x)


def by_while_loop(step, x):
    return ops.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, step(x)), (0, x))[1]


def by_scan(step, x):
    return ops.scan(lambda x, _: (step(x), x), x, length=3)[0]


def test_copies_of_points_in_loops():
    model = TwoLoops()
    model(SEQUENCES)
    with ts.capture(model, ["*cell", "*dense"]) as run:
        model(SEQUENCES)
        for point in run.values():
            for copied in (pickle.loads(pickle.dumps(point)), copy.deepcopy(point)):
                assert copied.histogram() == point.histogram()
        model(SEQUENCES)
    assert {point.state_count for point in run.values()} == {2 * 4 * 6}


class Loop(keras.Model):
    def __init__(self, repeat):
        super().__init__()
        self.shared, self.repeat = layers.Dense(4, name="shared"), repeat

    def call(self, x):
        x = self.repeat(lambda x: self.shared(self.shared(x)), x)
        return self.shared(x)


@pytest.mark.each_process
@pytest.mark.parametrize("repeat", [by_fori_loop, by_while_loop, by_scan])
@pytest.mark.parametrize("eagerly", [False, True])
def test_steps_of_a_loop_share_one_point_for_each_call_in_a_step(eagerly, repeat):
    model = Loop(repeat)
    model.compile(run_eagerly=eagerly)
    model.shared(X)
    steps = [X]
    for _ in range(7):
        steps.append(array(model.shared(steps[-1])))
    expected = [steps[1:7:2], steps[2:7:2], steps[7:]]
    with ts.capture(model, "shared") as run:
        for _ in range(2):
            model.predict(X, batch_size=20, verbose=0)
    assert len(run) == 3
    for point, called in zip(run.values(), expected, strict=True):
        rows = ts.compress_states(np.concatenate(called))
        np.testing.assert_array_equal(point.raw_states, np.concatenate([rows, rows]))
