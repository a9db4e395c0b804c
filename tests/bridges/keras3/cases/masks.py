"""Masks keep the rows of padding out: Keras' own, an input of the model, or one that is given."""

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tests.support.samples import thinned

WORDS = np.array([[3, 4, 0, 0, 0, 0], [1, 2, 3, 4, 5, 0], [1, 1, 1, 1, 1, 1]], "int32")
MASK = (WORDS != 0).astype("int32")
LAYERS = ["embedding", "dense", "lstm", "inner_dense"]


def padded(*, mask_zero=True):
    """A model with a second input that nothing but a capture uses, and a model inside."""
    words = keras.Input((6,), dtype="int32", name="words")
    mask = keras.Input((6,), dtype="int32", name="padding_mask")
    x = layers.Embedding(20, 8, mask_zero=mask_zero, name="embedding")(words)
    x = layers.Dense(8, activation="relu", name="dense")(x)
    x = layers.LSTM(5, return_sequences=True, name="lstm")(x)
    inside = keras.Input((6, 5))
    inner = keras.Model(inside, layers.Dense(4, name="inner_dense")(inside), name="inner")
    x = inner(x)
    x = layers.GlobalAveragePooling1D(name="pooled")(x)
    return keras.Model([words, mask], layers.Dense(2, name="out")(x))


def states_of(run, layer):
    point = run[f"inner/{layer}" if layer == "inner_dense" else layer]
    return point.state_count, point.instance_count


@pytest.mark.each_process
@pytest.mark.parametrize(
    ("mask", "in_place"),
    thinned(
        [(True, True), (True, False), ("padding_mask", True), ("padding_mask", False)],
        [(True, True), ("padding_mask", False)],
    ),
)
def test_masks_of_the_model(mask, in_place):
    model, chosen = padded(), [*LAYERS[:3], "inner/inner_dense"]
    if in_place:
        with ts.capture(model, chosen, mask=mask) as run:
            model.predict([WORDS, MASK], verbose=0, batch_size=2)
    else:
        captured = ts.build_efficiency_model(model, chosen, mask=mask)
        captured.predict([WORDS, MASK], verbose=0, batch_size=2)
        run = ts.Run(captured.efficiency_layers)
    for layer in LAYERS:
        assert states_of(run, layer) == (13, 3)


@pytest.mark.parametrize("in_place", [True, False])
def test_an_input_that_is_called_like_the_argument_of_keras(in_place):
    """Keras passes masks of its own to a model by an argument of that name."""
    words, mask = keras.Input((6, 4)), keras.Input((6,), dtype="int32", name="mask")
    model = keras.Model([words, mask], layers.Dense(3, name="dense")(words))
    given = [np.ones((3, 6, 4), "float32"), MASK]
    if in_place:
        with ts.capture(model, "dense", mask="mask") as run:
            model.predict(given, verbose=0)
    else:
        captured = ts.build_efficiency_model(model, "dense", mask="mask")
        captured.predict(given, verbose=0)
        run = ts.Run(captured.efficiency_layers)
    assert states_of(run, "dense") == (13, 3)


def test_kept_rows_are_those_of_the_sentences_alone():
    model = padded()
    with ts.capture(model, "dense", mask=True) as padding:
        model.predict([WORDS, MASK], verbose=0)
    with ts.capture(model, "dense") as whole:
        model.predict([WORDS, MASK], verbose=0)
    kept = whole["dense"].raw_states[MASK.astype(bool).ravel()]
    np.testing.assert_array_equal(padding["dense"].raw_states, kept)


@pytest.mark.parametrize("labels", [None, [0, 1, 1]])
def test_a_mask_that_is_given_for_a_block(labels):
    model = padded(mask_zero=False)
    with ts.capture(model, ["dense", "lstm"]) as run:
        with run.labels(labels, mask=MASK):
            model.predict_on_batch([WORDS, MASK])
        model.predict_on_batch([WORDS, MASK])
    assert run["dense"].state_count == 13 + 18
    if labels:
        with ts.capture(model, "dense", keep="counts") as run, run.labels(labels, mask=MASK):
            model([WORDS, MASK])
        assert {k: c.total for k, c in run["dense"].counts_by().items()} == {0: 2, 1: 11}


def test_layers_without_known_positions_keep_all_rows():
    model = padded()
    with (
        pytest.warns(ts.errors.UnmaskedLayerWarning, match="pooled_states .its positions were not"),
        ts.capture(model, "pooled", mask="padding_mask") as run,
    ):
        model.predict([WORDS, MASK], verbose=0)
    assert run["pooled"].state_count == 3


def test_positions_in_reverse_are_not_those_of_the_mask():
    words = keras.Input((6,), dtype="int32", name="words")
    mask = keras.Input((6,), dtype="int32", name="padding_mask")
    loop = layers.LSTM(5, return_sequences=True, go_backwards=True, name="loop")
    model = keras.Model([words, mask], loop(layers.Embedding(20, 8)(words)))
    with (
        pytest.warns(ts.errors.UnmaskedLayerWarning, match="loop_states .its positions were not"),
        ts.capture(model, "loop", mask="padding_mask") as run,
    ):
        model.predict([WORDS, MASK], verbose=0)
    assert run["loop"].state_count == 18


def test_a_mask_of_other_inputs_does_not_apply():
    model = padded()
    with (
        pytest.warns(ts.errors.UnmaskedLayerWarning, match="it has 3 inputs, the mask 2"),
        ts.capture(model, "dense") as run,
        run.labels(mask=MASK[:2]),
    ):
        model.predict_on_batch([WORDS, MASK])
    assert run["dense"].state_count == 18


def test_masks_that_a_model_has_not():
    with (
        pytest.raises(ValueError, match="no input 'mask_of_words'; there are words, padding_mask"),
        ts.capture(padded(), "dense", mask="mask_of_words"),
    ):
        pass
    with pytest.raises(ts.errors.NotCapturable, match="does not know: use capture"):
        ts.StateCapture("by_hand", mask="padding_mask")


def test_a_capture_layer_takes_the_mask_of_its_input():
    words = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, 8, mask_zero=True)(words)
    capture = ts.StateCapture("by_hand", mask=True)
    model = keras.Model(words, layers.Dense(3)(capture(x)))
    model.predict(WORDS, verbose=0)
    assert capture.state_count == 13
    assert ts.StateCapture.from_config(capture.get_config()).point.options.mask is True


@pytest.mark.each_process
@pytest.mark.parametrize("mask", [True, "padding_mask"])
def test_a_mask_ends_with_its_pass(mask):
    model = padded()
    with ts.capture(model, "dense", method="both", mask=mask) as run:
        model.predict([WORDS, MASK], verbose=0)
        assert [point.state_count for point in run.values()] == [13, 13]
        model.get_layer("dense")(np.ones((3, 6, 8), "float32"))
    assert [point.state_count for point in run.values()] == [31, 31]


def test_inputs_in_a_dict():
    model = padded()
    with ts.capture(model, "dense", mask="padding_mask") as run:
        model({"words": WORDS, "padding_mask": MASK})
    assert run["dense"].state_count == 13


def test_what_keeps_positions():
    words = keras.Input((6,), dtype="int32", name="words")
    mask = keras.Input((6,), dtype="int32", name="padding_mask")
    x = layers.ReLU(name="relu")(layers.Embedding(20, 8)(words))
    x = layers.Conv1D(8, 3, padding="same", name="conv")(x)
    inside = keras.Input((6, 8))
    x = keras.Model(inside, layers.ReLU()(inside), name="inner")(x)
    model = keras.Model([words, mask], layers.Dense(4, name="after")(x))
    with ts.capture(model, ["relu", "conv", "after"], mask="padding_mask") as run:
        model.predict([WORDS, MASK], verbose=0)
    assert [point.state_count for point in run.values()] == [13] * 3


def test_each_position_has_several_rows():
    frames = keras.Input((6, 5, 3))
    model = keras.Model(frames, layers.Dense(4, name="dense")(frames))
    x = np.random.default_rng(0).standard_normal((3, 6, 5, 3)).astype("float32")
    with ts.capture(model, "dense") as run:
        with run.labels(mask=MASK):
            model.predict_on_batch(x)
        model.predict_on_batch(x)
    rows = run["dense"].raw_states
    kept = rows[-90:].reshape(18, 5, -1)[MASK.astype(bool).ravel()]
    np.testing.assert_array_equal(rows[:-90], kept.reshape(65, -1))


def test_of_several_inputs_a_mask_is_about_the_one_that_is_named_like_it():
    encoded, decoded, mask = (
        keras.Input((6,), dtype="int32", name=name)
        for name in ("encoder_words", "decoder_words", "decoder_mask")
    )
    both = [layers.Embedding(20, 8, name=n)(x) for n, x in (("e", encoded), ("d", decoded))]
    model = keras.Model([encoded, decoded, mask], layers.Add()(both))
    with (
        pytest.warns(ts.errors.UnmaskedLayerWarning, match="e_states .its positions were not"),
        ts.capture(model, ["e", "d"], mask="decoder_mask") as run,
    ):
        model.predict([WORDS, WORDS, MASK], verbose=0)
    assert (run["e"].state_count, run["d"].state_count) == (18, 13)


def test_a_layer_that_destroys_the_mask_keeps_all_rows():
    class Unaware(layers.Layer):
        def call(self, x):
            return x + 1

    words = keras.Input((6,), dtype="int32")
    x = Unaware(name="unaware")(layers.Embedding(20, 8, mask_zero=True, name="embedding")(words))
    model = keras.Model(words, x)
    with ts.capture(model, ["embedding", "unaware"], mask=True) as run:
        model.predict(WORDS, verbose=0)
    assert (run["embedding"].state_count, run["unaware"].state_count) == (13, 18)


@pytest.mark.parametrize("by_name", [True, False])
def test_the_mask_of_a_subclassed_model_does_not_apply(by_name):
    class Masked(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4, name="dense")

        def call(self, x, keep=None):
            return self.dense(x)

    model, x = Masked(), np.ones((3, 6, 2), "float32")
    model(x)
    with (
        pytest.warns(ts.errors.UnmaskedLayerWarning, match="its positions were not followed"),
        ts.capture(model, "dense", mask="keep") as run,
    ):
        model(x, keep=MASK) if by_name else model(x, MASK)
    assert run["dense"].state_count == 18
