"""Layers that the code of a model, or of another layer, calls several times."""

import threading

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tensorstate_gpu.training import StateEfficiency

RNG = np.random.default_rng(0)
X, Y = (RNG.normal(size=(20, 4)).astype("float32") for _ in range(2))
SEQUENCES = RNG.normal(size=(4, 6, 3)).astype("float32")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor).copy()


class Twice(keras.Model):
    """Calls one dense layer twice, and another one once in between."""

    def __init__(self):
        super().__init__()
        self.shared, self.other = layers.Dense(4, name="shared"), layers.Dense(4, name="other")

    def call(self, x):
        return self.shared(self.other(self.shared(x)))

    def steps(self, x):
        first = self.shared(x)
        return array(first), array(self.shared(self.other(first)))


def twice(**options):
    model = Twice()
    model.compile("sgd", "mse", **options)
    model(X)
    return model


@pytest.mark.each_process
@pytest.mark.parametrize("eagerly", [False, True])
@pytest.mark.parametrize("run_with", ["call", "predict", "fit"])
def test_each_call_in_code_has_a_capture_point(run_with, eagerly):
    model = twice(run_eagerly=eagerly)
    expected = [ts.compress_states(step) for step in model.steps(X)]
    with ts.capture(model, ["shared", "other"]) as run:
        if run_with == "call":
            model(X)
        elif run_with == "predict":
            model.predict(X, batch_size=8, verbose=0)
        else:
            model.fit(X, 0 * X, batch_size=20, epochs=2, shuffle=False, verbose=0)
    assert [*run] == ["shared_states", "shared:2_states", "other_states"]
    for name, rows in zip(["shared_states", "shared:2_states"], expected, strict=True):
        point = run[name]
        assert point.instance_count == (40 if run_with == "fit" else 20)
        np.testing.assert_array_equal(point.raw_states[:20], rows)
    assert run["shared:2"].call_of == "shared_states"
    assert run["shared:2"].passes == run["shared"].passes


class Looping(keras.Model):
    """Calls a dense layer, and a recurrent one, at the same place in its code."""

    def __init__(self):
        super().__init__()
        self.shared = layers.Dense(4, name="shared")
        self.steps = layers.GRU(4, return_sequences=True, name="steps")

    def call(self, x):
        for _ in range(3):
            x = self.steps(self.shared(x))
        return x


def test_calls_at_one_place_in_code_where_a_graph_repeats_steps():
    model, x = Looping(), np.ones((20, 5, 4), "float32")
    steps = 1 if keras.backend.backend() == "torch" else 3  # as many as Keras runs there at once
    model.compile(loss="mse", steps_per_execution=steps)
    with ts.capture(model, "*") as run:
        model.fit(x, x, batch_size=4, shuffle=False, verbose=0)
        model.predict(x, batch_size=4, verbose=0)
    names = ["shared", "steps"]
    expected = [f"{name}{call}_states" for name in names for call in ("", ":2", ":3")]
    assert sorted(name for name in run if "cell" not in name) == sorted(expected)
    assert {point.instance_count for name, point in run.items() if "cell" not in name} == {40}
    assert {point.passes for point in run.values()} == {(10, 10)}


def test_merged_calls_share_a_capture_point():
    model = twice()
    rows = np.concatenate([ts.compress_states(step) for step in model.steps(X)])
    with ts.capture(model, "shared", merge_calls=True) as run:
        model.predict(X, batch_size=20, verbose=0)
    assert [*run] == ["shared_states"]
    np.testing.assert_array_equal(run["shared"].raw_states, rows)


def test_errors_of_merged_calls_need_units():
    model = twice()
    with ts.capture(model, ["shared", "other"], merge_calls=True) as run:
        model.predict(X, batch_size=8, verbose=0)
    with pytest.warns(UserWarning, match="shared_states: several calls in a pass"):
        run["shared"].estimate()
    run["other"].estimate()
    with ts.capture(model, "shared", merge_calls=True) as run, run.labels(units=range(20)):
        model(X)
    run["shared"].estimate()


@pytest.mark.each_process
def test_labels_and_counts_of_each_call():
    model = twice()
    y = np.arange(20) % 3
    rows = [ts.compress_states(step) for step in model.steps(X)]
    with ts.capture(model, "shared", keep="counts") as run, run.labels(y):
        model(X)
    for point, expected in zip(run.values(), rows, strict=True):
        for label, counts in point.counts_by().items():
            assert counts == ts.count_states(expected[y == label], 4)


class Words(Twice):
    """Calls a dense layer twice on padded sentences."""

    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(9, 4, mask_zero=True)

    def call(self, words):
        return self.shared(self.shared(self.embedding(words)))


def test_padding_is_left_out_of_each_call():
    words = np.array([[3, 4, 0], [1, 2, 3], [1, 0, 0], [2, 0, 0]], "int32")
    model = Words()
    model(words)
    with ts.capture(model, "shared", mask=True) as run:
        model.predict(words, batch_size=2, verbose=0)
    assert {name: point.state_count for name, point in run.items()} == {
        "shared_states": 7,
        "shared:2_states": 7,
    }


def test_states_of_each_call_are_sampled():
    model, callback = twice(), StateEfficiency("shared", states_per_step=5)
    model.fit(X, X, batch_size=10, shuffle=False, callbacks=[callback], verbose=0)
    assert [point.state_count for point in callback.run.values()] == [10, 10]


def test_attached_in_place_and_emptied():
    model = ts.build_efficiency_model(twice(), ["shared", "other"])
    names = ["shared_states", "shared:2_states", "other_states"]
    for _ in range(2):
        model.predict(X, batch_size=8, verbose=0)
        assert [p.name for p in model.efficiency_layers] == names
        assert [p.instance_count for p in model.efficiency_layers] == [20, 20, 20]
        ts.reset_efficiency_model(model)
    assert not hasattr(ts.remove_state_layers(model), "efficiency_layers")
    model.predict(X, verbose=0)


def test_a_store_that_is_resumed(tmp_path):
    model = twice()
    for is_resumed in [False, True]:
        with (
            ts.Store(tmp_path / "run", mode="a") as opened,
            ts.capture(model, "shared", storage_path=opened) as run,
        ):
            assert len(run) == 1 + is_resumed
            model.predict(X, batch_size=20, verbose=0)
    store = ts.Store(tmp_path / "run")
    assert [layer.name for layer in store.efficiency_layers] == ["shared_states", "shared:2_states"]
    assert [layer.call_of for layer in store.efficiency_layers] == [None, "shared_states"]
    for layer, step in zip(store.efficiency_layers, model.steps(X), strict=True):
        rows = ts.compress_states(step)
        np.testing.assert_array_equal(layer.raw_states, np.concatenate([rows, rows]))


class Repeated(layers.Layer):
    """A block of layers that is called several times, as in a universal transformer."""

    def __init__(self, times):
        super().__init__(name="repeated")
        self.times = times
        self.block = keras.Sequential([layers.Dense(4, name="dense")], name="block")

    def call(self, x):
        for _ in range(self.times):
            x = self.block(x)
        return x


@pytest.mark.each_process
def test_a_loop_over_a_block():
    inputs = keras.Input((4,))
    repeated = Repeated(3)
    model = keras.Model(inputs, repeated(inputs))
    x, rows = X, []
    for _ in range(3):
        x = array(repeated.block(x))
        rows.append(ts.compress_states(x))
    with ts.capture(model, "*dense") as run:
        model.predict(X, batch_size=8, verbose=0)
    names = [f"repeated/block/dense{number}_states" for number in ("", ":2", ":3")]
    assert [*run] == names
    for point, expected in zip(run.values(), rows, strict=True):
        np.testing.assert_array_equal(point.raw_states, expected)


def test_calls_in_code_that_a_graph_repeats():
    """First those of the graph, then those that code adds."""
    inputs = keras.Input((4,))
    repeated = Repeated(2)
    model = keras.Model(inputs, repeated(layers.ReLU()(repeated(inputs))))
    with ts.capture(model, "*dense") as run:
        model.predict(X, batch_size=20, verbose=0)
    first = array(repeated.block(X))
    second = array(repeated.block(first))
    third = array(repeated.block(np.maximum(second, 0)))
    steps = first, third, second, array(repeated.block(third))
    names = [f"repeated/block/dense{number}_states" for number in ("", ":2", ":3", ":4")]
    assert [*run] == names
    for point, step in zip(run.values(), steps, strict=True):
        np.testing.assert_array_equal(point.raw_states, ts.compress_states(step))


@pytest.mark.each_process
@pytest.mark.parametrize("is_rebuilt", [False, True])
def test_a_tower_that_is_called_for_two_inputs(is_rebuilt, tmp_path):
    inputs = keras.Input((4,))
    tower = keras.Model(inputs, layers.ReLU(name="relu")(layers.Dense(4, name="dense")(inputs)))
    tower.name = "tower"
    one, other = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([one, other], layers.Subtract()([tower(one), tower(other)]))
    expected = [ts.compress_states(array(tower(part))) for part in (X, Y)]
    if is_rebuilt:
        captured = ts.build_efficiency_model(model, "*relu")
        captured.predict([X, Y], batch_size=8, verbose=0)
        points = captured.efficiency_layers
    else:
        with ts.capture(model, "*relu") as run:
            model.predict([X, Y], batch_size=8, verbose=0)
        points = run.efficiency_layers
    assert [point.name for point in points] == ["tower/relu_states", "tower/relu:2_states"]
    for point, rows in zip(points, expected, strict=True):
        np.testing.assert_array_equal(point.raw_states, rows)
        assert point.instance_count == 20
    if is_rebuilt:
        captured.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        loaded([X, Y])
        assert sum(point.state_count for point in loaded.efficiency_layers) == 40


class Mlp(keras.Model):
    """Calls one Dropout on many features, and on few."""

    def __init__(self):
        super().__init__()
        self.up, self.down = layers.Dense(9, name="up"), layers.Dense(3, name="down")
        self.drop = layers.Dropout(0.1, name="drop")

    def call(self, x):
        return self.drop(self.down(self.drop(self.up(x))))


@pytest.mark.each_process
def test_calls_with_other_neurons_and_a_smaller_last_batch():
    model = Mlp()
    wide = array(model.up(X))
    rows = [ts.compress_states(wide), ts.compress_states(array(model.down(wide)))]
    model(X)
    with ts.capture(model, "drop") as run:
        model.predict(X, batch_size=8, verbose=0)
    assert [point.neurons for point in run.values()] == [9, 3]
    for point, expected in zip(run.values(), rows, strict=True):
        np.testing.assert_array_equal(point.raw_states, expected)


def test_calls_outside_of_the_model_are_first_ones():
    model = twice()
    with ts.capture(model, "shared") as run:
        model(X)
        model.shared(X)
        model.shared(X)
    assert [point.state_count for point in run.values()] == [60, 20]


class Failing(Twice):
    fails = False

    def call(self, x):
        x = self.shared(x)
        if self.fails:
            raise OverflowError("on purpose")
        return self.shared(x)


@pytest.mark.each_process
def test_calls_after_a_pass_that_failed_are_first_ones():
    model = Failing()
    model(X)
    with ts.capture(model, "shared") as run:
        model(X)
        model.fails = True
        with pytest.raises(OverflowError):
            model(X)
        model.shared(X)
        model.shared(X[:5])
        model.fails = False
        model(X)
    assert [point.state_count for point in run.values()] == [4 * 20 + 5, 40]
    assert (run[0].passes, run[1].passes) == ((3, 3), (2, 3))


class Waiting(Twice):
    """Waits between its calls until another thread is there, too."""

    barrier = None

    def call(self, x):
        x = self.shared(x)
        if self.barrier is not None:
            self.barrier.wait()
        return self.shared(x)


@pytest.mark.each_process
def test_threads_that_make_passes_at_the_same_time():
    model = Waiting()
    model(X)
    first = array(model.shared(X))
    steps = first, array(model.shared(first))
    with ts.capture(model, "shared") as run:
        model.barrier = threading.Barrier(2)
        threads = [threading.Thread(target=model, args=(X,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [*run] == ["shared_states", "shared:2_states"]
    for point, step in zip(run.values(), steps, strict=True):
        rows = ts.compress_states(step)
        np.testing.assert_array_equal(point.raw_states, np.concatenate([rows, rows]))
