"""StateEfficiency: a callback of fit() on each backend."""

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tensorstate_gpu._capturing.sampling import whole_inputs
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


def counts_of(model, x):
    """By NumPy, from the weights: a model that Keras compiles takes seconds."""
    weights, bias = model.get_layer("hidden").get_weights()
    return ts.count_states(ts.compress_states(x @ weights + bias), neurons=12)


def efficiency_of(model, x):
    return counts_of(model, x).efficiency()


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
    assert {"entropy/hidden", "val_dead_share/hidden"} <= {*history}
    # Which tells how many states there were: those of one epoch.
    assert history["ceiling/hidden"] == [ts.information.ceiling(24, 12)] * 2
    assert history["val_ceiling/hidden"] == [ts.information.ceiling(10, 12)] * 2
    assert np.array_equal(model.predict(V, verbose=0), before)


FREQUENCIES = [("epoch", ()), ("batch", (0, 1, 2)), (2, (1,))]


@pytest.mark.parametrize(("update_freq", "batches"), thinned(FREQUENCIES, [(2, (1,))]))
def test_update_freq(update_freq, batches):
    model, later = network(), Later()
    callbacks = [StateEfficiency("hidden", update_freq=update_freq), later]
    model.fit(X, Y, batch_size=8, shuffle=False, callbacks=callbacks, verbose=0)
    seen = {n: logs["efficiency"] for n, logs in enumerate(later.batches) if "efficiency" in logs}
    assert seen == {n: efficiency_of(model, X[: 8 * (n + 1)]) for n in batches}
    assert [logs["efficiency"] for logs in later.epochs] == [efficiency_of(model, X)]


def test_batches_of_an_epoch_are_sampled():
    """Of 6 batches of 4 inputs, the first and the fifth; and all of the validation."""
    model, callback = network(), StateEfficiency("hidden", every_n_steps=4)
    sampled = [*range(4), *range(16, 20)]
    history = model.fit(
        *(X, Y),
        validation_data=(V, Y[:10]),
        batch_size=4,
        epochs=2,
        shuffle=False,
        callbacks=[callback],
        verbose=0,
    ).history
    assert history["efficiency"] == [efficiency_of(model, X[sampled])] * 2
    assert history["val_efficiency"] == [efficiency_of(model, V)] * 2
    model.fit(X, Y, batch_size=4, shuffle=False, callbacks=[callback], verbose=0)
    assert callback.run["hidden"].histogram() == counts_of(model, X[sampled])
    assert callback.run["hidden"].passes == (6, 6)  # those between are known, and not captured


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras refuses it there")
@pytest.mark.parametrize(("every", "captured"), thinned([(3, 16), (9, 8)], [(3, 16)]))
def test_batches_that_keras_runs_as_one_are_captured_as_one(every, captured):
    """The first batch is 0, so of pairs of 6 batches the second has that of number 3."""
    model, callback = network(), StateEfficiency("hidden", every_n_steps=every)
    model.compile(keras.optimizers.SGD(0.0), model.loss, steps_per_execution=2)
    model.fit(X, Y, batch_size=4, shuffle=False, callbacks=[callback], verbose=0)
    assert callback.run["hidden"].histogram() == counts_of(model, X[:captured])


def test_states_of_each_batch_are_sampled():
    """Whole inputs: which of them, the number of the pass decides."""
    model, callback = network(), StateEfficiency("hidden", states_per_step=5)
    model.fit(X, Y, batch_size=8, shuffle=False, callbacks=[callback], verbose=0)
    hidden = callback.run["hidden"]
    assert (hidden.state_count, callback.passed_over("hidden")) == (15, 9)
    assert hidden.instance_count == 15
    starts = [whole_inputs([1] * 8, 5, step=n).start for n in range(3)]
    taken = [8 * n + start + each for n, start in enumerate(starts) for each in range(5)]
    assert hidden.histogram() == counts_of(model, X[taken])


WORDS = np.array([[3, 4, 0, 0, 0, 0], [1, 2, 3, 4, 5, 0], [1, 1, 1, 1, 1, 1]], "int32")


def sentences():
    words = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, 8, mask_zero=True, name="embedding")(words)
    x = layers.Dense(8, activation="relu", name="dense")(x)
    model = keras.Model(words, layers.Dense(2, name="out")(layers.GlobalAveragePooling1D()(x)))
    model.compile("sgd", "mse")
    return model


def test_padding_is_left_out():
    """Of 2, 5 and 6 words, at most 9 are of all sentences; at most 1 is of one alone."""
    for most, expected in ((None, (13, 3)), (9, (9, 3)), (1, (1, 1))):
        callback = StateEfficiency("dense", mask=True, states_per_step=most)
        sentences().fit(WORDS, np.zeros((3, 2)), callbacks=[callback], shuffle=False, verbose=0)
        dense = callback.run["dense"]
        assert (dense.state_count, dense.instance_count) == expected
        assert callback.passed_over("dense") == 13 - expected[0]


def test_a_mask_that_is_no_input():
    model, callback = sentences(), StateEfficiency("dense", mask="padding")
    with pytest.raises(ValueError, match="has no input 'padding'"):
        model.fit(WORDS, np.zeros((3, 2)), callbacks=[callback], verbose=0)


@pytest.mark.parametrize("trained", [False, True])
def test_an_evaluation_alone(trained):
    model, callback, later = network(), StateEfficiency("hidden"), Later()
    call = model.get_layer("hidden").call
    if trained:
        model.fit(X, Y, callbacks=[callback], verbose=0)
    model.evaluate(V, Y[:10], callbacks=[callback, later], verbose=0)
    assert [logs["efficiency"] for logs in later.tests] == [efficiency_of(model, V)]
    assert model.get_layer("hidden").call == call
    model.predict(V, callbacks=[callback], verbose=0)
    assert model.get_layer("hidden").call == call


def test_each_fit_begins_anew():
    """Also each epoch, where no validation comes in between."""
    model, callback, later = network(), StateEfficiency("hidden", update_freq=4), Later()
    for _ in range(2):
        model.fit(X, Y, batch_size=8, epochs=2, callbacks=[callback, later], verbose=0)
        assert callback.run["hidden"].state_count == 24
    # Of the 6 batches of each fit, every fourth.
    shown = [number for number, logs in enumerate(later.batches) if "efficiency" in logs]
    assert shown == [3, 6 + 3]


@pytest.mark.parametrize("rule", [{"threshold": 0.5}, {"firing": lambda x: abs(x) > 0.5}])
def test_options_of_captures(rule):
    model = network()
    callback = StateEfficiency(exclude="pred", method="before", neuron_axis=1, **rule)
    if "firing" in rule and keras.backend.backend() == "jax":
        with pytest.raises(TypeError, match="firing= is not for JAX transformations"):
            model.fit(X, Y, callbacks=[callback], verbose=0)
        return
    model.fit(X, Y, callbacks=[callback], verbose=0)
    assert [*callback.run] == ["hidden_pre_states"]
    expected = ts.count_states(ts.compress_states(X, **rule), neurons=6)
    assert callback.run[0].histogram() == expected
    assert (callback.run[0].keep, callback.run[0].axis_origin) == ("counts", "given")


class Evaluating(keras.callbacks.Callback):
    """Runs the model on other inputs, in the midst of each epoch and at its end."""

    def on_train_batch_end(self, batch, logs=None):
        self.model.evaluate(V, Y[:10], verbose=0)

    def on_epoch_end(self, epoch, logs=None):
        self.model.predict(V, verbose=0)


def test_what_other_callbacks_evaluate_is_not_counted():
    model = network()
    history = model.fit(
        *(X, Y),
        validation_data=(V[:6], Y[:6]),
        batch_size=12,
        epochs=2,
        callbacks=[Evaluating(), StateEfficiency("hidden")],
        verbose=0,
    ).history
    assert history["efficiency"] == [efficiency_of(model, X)] * 2
    assert history["ceiling/hidden"] == [ts.information.ceiling(24, 12)] * 2
    assert history["val_ceiling/hidden"] == [ts.information.ceiling(6, 12)] * 2


def test_a_part_of_the_data_is_the_validation():
    """The last quarter: Keras takes it before it shuffles."""
    model = network()
    history = model.fit(
        X, Y, validation_split=0.25, epochs=1, callbacks=[StateEfficiency("hidden")], verbose=0
    ).history
    assert history["efficiency"] == [efficiency_of(model, X[:18])]
    assert history["val_efficiency"] == [efficiency_of(model, X[18:])]


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


def test_an_epoch_without_validation_shows_none():
    model, later = network(), Later()
    model.fit(
        *(X, Y),
        validation_data=(V, Y[:10]),
        validation_freq=2,
        epochs=3,
        callbacks=[StateEfficiency("hidden"), later],
        verbose=0,
    )
    assert ["val_efficiency" in logs for logs in later.epochs] == [False, True, False]


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


@pytest.mark.parametrize("option", ["every_n_steps", "states_per_step"])
def test_a_bad_number(option):
    with pytest.raises(ValueError, match=f"{option} must be"):
        StateEfficiency(**{option: 0})


@pytest.mark.parametrize(
    "options",
    [
        {"attach_to": 5},
        {"exclude": [None]},
        {"attach_to": lambda layer: True},
        {"method": "beside"},
        {"threshold": "high"},
        {"firing": 5},
        {"neuron_axis": "first"},
        {"mask": 5},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_is_wrong_shows_when_the_callback_is_made(options):
    """As with those of PyTorch: not when the training begins."""
    (name,) = options
    with pytest.raises((TypeError, ValueError), match=name):
        StateEfficiency(**options)


def test_layers_from_a_generator():
    """Each fit() reads them."""
    callback = StateEfficiency(name for name in ["hidden"])
    for _ in range(2):
        network().fit(X, Y, verbose=0, callbacks=[callback])
        assert len(callback.run) == 1


def test_a_monitor_of_a_keras_model_says_what_to_use():
    with pytest.raises(ts.errors.NotCapturable, match=r"training\.StateEfficiency is a callback"):
        ts.StateMonitor(network())
