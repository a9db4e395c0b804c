"""StateEfficiency: a callback of fit() on each backend."""

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tensorstate_gpu.training import StateEfficiency
from tests.support.samples import thinned

X = np.random.default_rng(0).standard_normal((24, 6)).astype("float32")
Y = np.arange(24) % 3
V = np.random.default_rng(1).standard_normal((10, 6)).astype("float32")


def network():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(12, "relu", name="hidden"),
            layers.Dropout(0.5),
            layers.Dense(3, name="pred"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss)  # so that counts can be compared
    return model


class Later(keras.callbacks.Callback):
    """Sees the logs as TensorBoard does."""

    def __init__(self):
        super().__init__()
        self.batches, self.epochs, self.tests = [], [], []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(dict(logs))

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(dict(logs))

    def on_test_end(self, logs=None):
        self.tests.append(dict(logs))


def efficiency_of(model, x):
    with ts.capture(model, "hidden") as run:
        model.predict(x, verbose=0)
    return run[0].efficiency()


@pytest.mark.each_process
def test_training_and_validation_apart():
    model = network()
    before = model.predict(V, verbose=0)
    history = model.fit(
        *(X, Y),
        validation_data=(V, Y[:10]),
        batch_size=8,
        epochs=2,
        callbacks=[StateEfficiency("hidden")],
        verbose=0,
    ).history
    assert history["efficiency"] == [efficiency_of(model, X)] * 2
    assert history["val_efficiency"] == [efficiency_of(model, V)] * 2
    assert {"entropy/hidden", "val_dead_share/hidden", "ceiling/hidden"} <= {*history}
    assert np.array_equal(model.predict(V, verbose=0), before)


FREQUENCIES = [("epoch", ()), ("batch", (0, 1, 2)), (2, (1,))]


@pytest.mark.each_process
@pytest.mark.parametrize(("update_freq", "batches"), thinned(FREQUENCIES, [(2, (1,))]))
def test_update_freq(update_freq, batches):
    model, later = network(), Later()
    callbacks = [StateEfficiency("hidden", update_freq=update_freq), later]
    model.fit(X, Y, batch_size=8, shuffle=False, callbacks=callbacks, verbose=0)
    seen = {n: logs["efficiency"] for n, logs in enumerate(later.batches) if "efficiency" in logs}
    assert seen == {n: efficiency_of(model, X[: 8 * (n + 1)]) for n in batches}
    assert [logs["efficiency"] for logs in later.epochs] == [efficiency_of(model, X)]


@pytest.mark.each_process
def test_an_evaluation_alone():
    model, later = network(), Later()
    model.evaluate(V, Y[:10], callbacks=[StateEfficiency("hidden"), later], verbose=0)
    assert [logs["efficiency"] for logs in later.tests] == [efficiency_of(model, V)]


def test_early_stopping():
    model = network()
    stopping = keras.callbacks.EarlyStopping("val_efficiency", mode="max", patience=1)
    history = model.fit(
        *(X, Y),
        validation_data=(V, Y[:10]),
        epochs=5,
        callbacks=[StateEfficiency("hidden"), stopping],
        verbose=0,
    )
    assert len(history.epoch) == 2


def test_the_model_is_captured_during_fit_only():
    model, callback = network(), StateEfficiency()
    call = model.get_layer("hidden").call
    model.fit(X, Y, callbacks=[callback], verbose=0)
    assert model.get_layer("hidden").call == call
    assert {*callback.run} == {"hidden_states", "pred_states"}
    model.predict(X, verbose=0)
    assert callback.run["hidden"].state_count == 24


def test_a_fit_that_failed_leaves_nothing_to_the_next():
    class Failing(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise OSError

    model, callback = network(), StateEfficiency("hidden")
    call = model.get_layer("hidden").call
    with pytest.raises(OSError):  # noqa: PT011
        model.fit(X, Y, batch_size=8, callbacks=[callback, Failing()], verbose=0)
    model.fit(X, Y, callbacks=[callback], verbose=0)
    assert callback.run["hidden"].state_count == 24
    assert model.get_layer("hidden").call == call


@pytest.mark.parametrize(
    ("update_freq", "kind"), [("often", ValueError), (0, ValueError), (1.5, TypeError)]
)
def test_a_bad_frequency(update_freq, kind):
    with pytest.raises(kind, match="update_freq must be"):
        StateEfficiency(update_freq=update_freq)


def test_a_monitor_of_a_keras_model_says_what_to_use():
    with pytest.raises(ts.errors.NotCapturable, match=r"training\.StateEfficiency is a callback"):
        ts.StateMonitor(network())
