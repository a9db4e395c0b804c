"""What belongs to a pass, a batch or a block does not speak for what comes after, or beside it."""

import signal
import threading

import keras
import numpy as np
import pytest
from keras import layers, ops

import tensorstate_gpu as ts
from tensorstate_gpu.training import StateEfficiency
from tests.bridges.keras3.cases.models import BACKEND

X = np.random.default_rng(0).standard_normal((8, 4)).astype("float32")
WORDS = np.random.default_rng(1).standard_normal((2, 4, 3)).astype("float32")


def test_a_mask_of_a_batch_that_was_not_captured():
    x = layers.Dense(5, name="dense")(layers.Masking()(inputs := keras.Input((4, 3))))
    model, padded = keras.Model(inputs, x), WORDS.copy()
    padded[:, 2:] = 0
    with ts.capture(model, "dense", mask=True) as run:
        with run.paused():
            model.predict(padded, verbose=0)
        model.get_layer("dense")(ops.convert_to_tensor(WORDS))  # without a mask of its own
    assert run["dense"].state_count == 8


class Meeting(layers.LayerNormalization):
    """Where calls from two threads wait for each other, once it is told to."""

    barrier = None

    def call(self, x):
        if self.barrier is not None:
            self.barrier.wait()
        return super().call(x)


def in_two_threads(*functions):
    failed = []

    def run(function):
        try:
            function()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=[each]) for each in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_passes_of_two_threads_have_their_own_masks_and_inputs():
    mask = keras.Input((4,), dtype="int32", name="padding_mask")
    x = layers.Dense(6, name="before")(inputs := keras.Input((4, 3)))
    meeting = Meeting()
    model = keras.Model([inputs, mask], layers.Dense(5, name="after")(meeting(x)))
    batches = [
        [ops.convert_to_tensor(WORDS), ops.ones((2, 4), "int32")],
        [ops.convert_to_tensor(WORDS[:1]), ops.convert_to_tensor(np.int32([[1, 0, 0, 0]]))],
    ]
    with ts.capture(model, ["before", "after"], mask="padding_mask") as run:
        meeting.barrier = threading.Barrier(2, timeout=60)
        in_two_threads(*(lambda batch=batch: model(batch) for batch in batches))
    for point in run.values():
        assert (point.state_count, point.passes) == (9, (2, 2))
        assert sorted(np.bincount(point.rows_with_instances()[1]).tolist()) == [1, 4, 4]


@pytest.mark.skipif(BACKEND == "jax", reason="fit() takes the weights out of the model meanwhile")
def test_a_pass_is_not_shuffled_because_another_thread_fits():
    meeting = Meeting()
    x = layers.Dense(5, name="dense")(meeting(inputs := keras.Input((4,))))
    model = keras.Model(inputs, x)
    model.compile("sgd", "mse", run_eagerly=True)
    fitted = np.zeros((3, 4), "float32"), np.zeros((3, 5), "float32")
    model.fit(*fitted, batch_size=3, verbose=0)  # on PyTorch and JAX, the first builds
    with ts.capture(model, "dense") as run:
        meeting.barrier = threading.Barrier(2, timeout=60)
        x = ops.convert_to_tensor(X)
        in_two_threads(
            lambda: model.fit(*fitted, batch_size=3, shuffle=False, verbose=0), lambda: model(x)
        )
    numbers = run["dense"].rows_with_instances()[1]
    assert sorted(np.bincount(numbers).tolist()) == [1] * 11


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a graph that fails in its middle")
def test_a_pass_that_failed_in_a_graph():
    import tensorflow as tf

    class Failing(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4, name="dense")

        def call(self, x):
            return tf.debugging.check_numerics(self.dense(x) / 0, "fails")

    model = Failing()
    model.dense.build((None, 4))
    model.compile("sgd", "mse")
    with ts.capture(model, "dense") as run:
        with pytest.raises(tf.errors.InvalidArgumentError):
            model.fit(X, X, batch_size=2, verbose=0)
        run.reset()
        model.dense(tf.constant(X))
        tf.function(lambda x: model.dense(model.dense(x)))(tf.constant(X))
    assert [*run] == ["dense_states"]
    assert run["dense"].state_count == 24
    assert {*run["dense"].counts_by(np.arange(24) % 2)} == {0, 1}


@pytest.mark.skipif(BACKEND == "torch", reason="no function is traced")
def test_what_was_traced_outside_of_a_pass_belongs_to_later_ones():
    """As a layer of which a part has a graph of its own, when it was called alone before."""
    if BACKEND == "jax":
        from jax import jit
    else:
        from tensorflow import function as jit
    dense = layers.Dense(4, name="dense")
    dense.build((None, 4))
    twice = jit(lambda x: dense(dense(x)))

    class Outer(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.built = dense, True

        def call(self, x):
            return twice(x)

    model = Outer()
    with ts.capture(model, "dense") as run:
        twice(ops.convert_to_tensor(X))
        run.reset()
        model.predict(X, batch_size=8, verbose=0)
    assert {name: point.passes for name, point in run.items()} == {
        "dense_states": (1, 1),
        "dense:2_states": (1, 1),
    }


class Looking(keras.callbacks.Callback):
    """Calls the model, and parts of it, between the steps of fit(), as those that draw images."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def look(self):
        many = ops.ones((100, 4))
        self.model.get_layer("dense")(many)
        self.model(many)
        keras.Model(self.model.inputs, self.model.get_layer("dense").output)(many)

    def on_train_batch_end(self, batch, logs=None):
        self.look()

    def on_test_batch_end(self, batch, logs=None):
        self.look()

    def on_epoch_end(self, epoch, logs=None):
        part = keras.Model(self.model.inputs, self.model.get_layer("dense").output)
        part.predict(np.ones((100, 4), "float32"), verbose=0)


class Counting(keras.callbacks.Callback):
    """Notes how many states another callback has, in training and in validation."""

    def __init__(self, other):
        super().__init__()
        self.other, self.found = other, []

    def on_epoch_end(self, epoch, logs=None):
        self.found.append(self.other.run["dense"].state_count)

    on_test_end = on_epoch_end


@pytest.mark.each_process
@pytest.mark.parametrize("validates", [False, True])
def test_what_other_callbacks_call_is_no_training(validates):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="dense")])
    model.compile("sgd", "mse")
    callback = StateEfficiency("dense")
    counting = Counting(callback)
    validation = {"validation_data": (X[:6], X[:6]), "validation_batch_size": 3}
    model.fit(
        *(X, X),
        batch_size=4,
        verbose=0,
        callbacks=[Looking(), counting, callback],
        **(validation if validates else {}),
    )
    assert counting.found[0] == (6 if validates else 8)


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_old_functions_that_a_program_keeps(method):
    """As the traceback of a fit() that failed does, in a notebook."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="dense")])
    model.compile("sgd", "mse")
    data = (X,) if method == "predict" else (X, X)
    getattr(model, method)(*data, verbose=0)
    kept = model.train_function, model.test_function, model.predict_function
    for _ in range(2):
        with ts.capture(model, "dense") as run:
            getattr(model, method)(*data, verbose=0)
            kept += model.train_function, model.test_function, model.predict_function
        assert run["dense"].state_count == 8
    assert any(kept)


def test_ctrl_c_at_the_end_of_removing_leaves_a_model_to_remove_from():
    class Interrupting(layers.Layer):
        is_on = False

        def call(self, x):
            if self.is_on:
                signal.raise_signal(signal.SIGINT)
            return x

    interrupting = Interrupting()
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="dense"), interrupting])
    captured = ts.build_efficiency_model(model, "dense")
    interrupting.is_on = True
    with pytest.raises(KeyboardInterrupt):
        ts.remove_state_layers(captured)
    interrupting.is_on = False
    removed = ts.remove_state_layers(captured)
    assert [type(layer) for layer in removed.layers] == [
        type(layer) for layer in keras.Model(model.inputs, model.outputs).layers
    ]
    assert not hasattr(captured, "efficiency_layers")
