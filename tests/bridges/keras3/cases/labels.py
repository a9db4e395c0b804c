"""Labels of inputs: given for each batch, or afterwards, where the order of the inputs is known."""

import threading
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tests.bridges.keras3.cases.models import compiled, convolutional
from tests.support.samples import thinned

Y = np.arange(50) % 3


def by_label(point, labels=None):
    return {label: counts.total for label, counts in point.counts_by(labels).items()}


def test_labels_afterwards(images):
    model = compiled(convolutional())
    with ts.capture(model, "dense") as run:
        model.predict(images, batch_size=16, verbose=0)
    assert by_label(run["dense_states"], Y) == {0: 17, 1: 17, 2: 16}


class Waits(keras.Model):
    """Lets another thread do something in the middle of fit()."""

    meanwhile = None

    def train_step(self, data):
        thread = threading.Thread(target=self.meanwhile)
        thread.start()
        thread.join()
        return super().train_step(data)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="graphs call back in other threads")
def test_fit_in_another_thread_shuffles_nothing_here(images, targets):
    model, inputs = compiled(convolutional()), keras.Input(images.shape[1:])
    other = compiled(Waits(inputs, convolutional()(inputs)))
    with ts.capture(model, "conv") as run:
        other.meanwhile = lambda: model.get_layer("conv")(images)
        other.fit(images, targets, batch_size=50, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert by_label(run["conv_states"], Y) == {0: 36 * 17, 1: 36 * 17, 2: 36 * 16}


@pytest.mark.each_process
@pytest.mark.parametrize("shuffle", thinned([True, False], [True]))
def test_labels_after_fit_need_the_order_of_the_inputs(images, targets, tmp_path, shuffle):
    model = compiled(convolutional())
    with ts.capture(model, "dense", storage_path=tmp_path / "run") as run:
        model.fit(images, targets, verbose=0, shuffle=shuffle)
    reads = [lambda: point.counts_by(Y), lambda: point.histogram(Y == 0)]
    for point in (run["dense_states"], ts.Store(tmp_path / "run")["dense_states"]):
        assert point.histogram().total == 50
        for read in reads:
            if shuffle:
                with pytest.warns(ts.errors.ShuffledInputsWarning, match="dense_states: fit"):
                    read()
            else:
                read()


def outside_of_passes():
    """A model whose capture layer was placed by hand: it knows of no passes."""
    inputs = keras.Input((8, 8, 2))
    y = layers.Flatten()(inputs)
    return keras.Model(inputs, layers.Dense(3)(ts.StateCapture("seen")(y)))


def is_shuffled(point):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        point.counts_by(np.arange(point.instance_count))
    return [warning.category for warning in told] == [ts.errors.ShuffledInputsWarning]


@pytest.mark.each_process
@pytest.mark.parametrize("by_hand", [False, True])
def test_one_traced_function_serves_fits_that_shuffle_and_others(images, targets, by_hand):
    """Graphs call back in threads of their own, which nothing tells of the fit() that runs now."""
    if by_hand:
        model = compiled(outside_of_passes())
        point = model.get_layer("seen").point
    else:
        model = compiled(ts.build_efficiency_model(convolutional(), "dense"))
        (point,) = model.efficiency_layers
    given = {"batch_size": 25, "verbose": 0}
    runs = {
        "train_on_batch": lambda: model.train_on_batch(images[:25], targets[:25]),
        "fit": lambda: model.fit(images, targets, **given),
        "in order": lambda: model.fit(images, targets, shuffle=False, **given),
        "evaluate": lambda: model.evaluate(images, targets, **given),
    }
    found = []
    for name in ("train_on_batch", "fit", "in order", "fit", "evaluate", "train_on_batch"):
        point.reset_states()
        runs[name]()
        found.append((name, is_shuffled(point)))
    assert found == [(name, name == "fit") for name, _ in found]


class Scores(keras.Model):
    """Its forward pass is a method of the name of a loop of Keras; its validation is its own."""

    def __init__(self):
        super().__init__()
        self.dense, self.seen = layers.Dense(3), ts.StateCapture("seen")

    def predict(self, x):
        return self.dense(self.seen(x))

    def call(self, x):
        return self.predict(x)

    def evaluate(self, x, *args, **kwargs):
        self(x)
        return {}


@pytest.mark.each_process
def test_methods_that_have_names_of_loops(images, targets):
    model, inputs = compiled(Scores()), images.reshape(50, -1)
    point = model.seen.point

    model.fit(inputs, targets, verbose=0)
    assert is_shuffled(point)
    reset_before = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: point.reset_states()
    )
    model.fit(
        inputs,
        targets,
        batch_size=50,
        validation_data=(inputs, targets),
        callbacks=[reset_before],
        verbose=0,
    )
    assert not is_shuffled(point)


class Batches(keras.utils.PyDataset):
    def __init__(self, images, targets, length):
        super().__init__()
        self._all, self._length = (images, targets), length

    def __len__(self):
        return self._length

    @property
    def num_batches(self):
        return self._length

    def __getitem__(self, index):
        return tuple(part[index % 2 * 25 :][:25] for part in self._all)


def in_two(images, targets):
    for at in (0, 25):
        yield images[at : at + 25], targets[at : at + 25]


@pytest.mark.each_process
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (in_two, False),
        (lambda *given: Batches(*given, 2), True),
        (lambda *given: Batches(*given, None), False),
    ],
    ids=["generator", "batches", "endless"],
)
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed, but will be ignored")
def test_what_fit_does_not_shuffle_is_in_its_own_order(images, targets, data, expected):
    model = compiled(convolutional())
    with ts.capture(model, "dense") as run:
        model.fit(data(images, targets), steps_per_epoch=2, verbose=0)
    assert is_shuffled(run["dense_states"]) == expected


@pytest.mark.each_process
def test_no_stack_of_another_thread_is_walked(images, targets, monkeypatch):
    """CPython 3.11 crashed once where that thread ran on."""

    def walked():
        raise AssertionError("the stacks of all threads were asked for")

    monkeypatch.setattr("sys._current_frames", walked)
    model = compiled(convolutional())
    with ts.capture(model, "dense") as run:
        model.fit(images, targets, batch_size=25, verbose=0)
    assert run["dense_states"].state_count == 50


def test_after_a_reset_the_order_is_known_again(images, targets):
    model = ts.build_efficiency_model(convolutional(), "dense")
    compiled(model).fit(images, targets, verbose=0)
    (point,) = model.efficiency_layers
    point.reset_states()
    model.predict(images, verbose=0)
    assert by_label(point, Y) == {0: 17, 1: 17, 2: 16}


@pytest.mark.each_process
@pytest.mark.parametrize("keep", thinned(["states", "counts"], ["counts"]))
def test_labels_of_each_batch(images, targets, keep):
    model = compiled(convolutional())
    with ts.capture(model, "conv", keep=keep) as run:
        for start in range(0, 50, 20):
            part = slice(start, start + 20)
            with run.labels(Y[part]):
                model.train_on_batch(images[part], targets[part])
    assert by_label(run["conv_states"]) == {0: 17 * 36, 1: 17 * 36, 2: 16 * 36}


def test_labels_hold_in_their_block_only(images):
    model = compiled(convolutional())
    with ts.capture(model, "dense") as run:
        with run.labels(Y[:20]):
            model(images[:20])
        with pytest.warns(UserWarning, match=r"use `with run\.labels\(y_batch\):`") as told:
            run.labels(Y[:20])
        assert [warning.filename for warning in told] == [__file__]
        run.labels(None)  # says nothing, so nothing is lost
        model(images[:20])
    with pytest.raises(ts.errors.LabelsMissing, match="dense_states: 20 of 40 instances"):
        run["dense_states"].counts_by()


def test_a_block_that_is_entered_says_nothing(images):
    with ts.capture(convolutional(), "dense") as run, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with run.labels(Y[:20]):
            pass
    assert [str(each.message) for each in told if "hold inside a block" in str(each.message)] == []


def test_labels_that_fit_would_shuffle_are_left_out(images, targets):
    model = compiled(convolutional())
    with (
        ts.capture(model, "dense") as run,
        pytest.warns(ts.errors.ShuffledInputsWarning),
        run.labels(Y),
    ):
        model.fit(images, targets, batch_size=50, verbose=0)
    with pytest.raises(ts.errors.LabelsMissing, match="50 of 50 instances"):
        run["dense_states"].counts_by()


@pytest.mark.each_process
def test_a_callback_of_fit_gives_labels(images, targets):
    found = []

    class Measure(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            for evaluate in (self.model.predict_on_batch, self.model):
                with ts.capture(self.model, "dense") as run, run.labels(Y):
                    evaluate(images)
                found.append(by_label(run["dense_states"]))

    compiled(convolutional()).fit(images, targets, verbose=0, callbacks=[Measure()])
    assert found == [{0: 17, 1: 17, 2: 16}] * 2


def test_validation_data_are_in_order(images, targets):
    model = compiled(convolutional())
    with ts.capture(model, "dense", when="eval") as run:
        model.fit(images, targets, validation_data=(images, targets), verbose=0)
    with warnings.catch_warnings(action="error"):
        assert by_label(run["dense_states"], Y) == {0: 17, 1: 17, 2: 16}


class SmallClassifier(keras.Model):
    """A subclassed model that uses one pooling and one normalisation several times."""

    def __init__(self):
        super().__init__()
        self.first = keras.layers.Conv2D(4, 3, activation="relu", name="first")
        self.second = keras.layers.Conv2D(4, 3, activation="relu", name="second")
        self.pool = keras.layers.MaxPooling2D(1, name="pool")
        self.norm = keras.layers.BatchNormalization(name="norm")
        self.out = keras.layers.Dense(3, name="out")

    def call(self, x, training=None):
        y = self.norm(self.pool(self.first(x)), training=training)
        y = self.norm(self.pool(self.second(y)), training=training)
        return self.out(keras.ops.mean(y, (1, 2)))


@pytest.mark.parametrize(
    "predict", thinned(["predict", "predict_on_batch", "__call__"], ["predict_on_batch"])
)
def test_tables_of_each_class_of_a_subclassed_model(images, predict):
    model = compiled(SmallClassifier())
    with ts.capture(model, ["first", "second", "out", "norm", "pool"]) as run:
        for start in range(0, 50, 20):
            with run.labels(Y[start : start + 20]):
                getattr(model, predict)(images[start : start + 20])
    inputs = np.bincount(Y)
    positions_of = {"first": 36, "second": 16, "out": 1, "norm": 36, "pool:2": 16}
    for name, positions in positions_of.items():
        assert by_label(run[f"{name}_states"]) == dict(enumerate((positions * inputs).tolist()))
