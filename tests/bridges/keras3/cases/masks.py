"""Masks keep the rows of padding out: Keras' own, an input of the model, or one that is given."""

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts

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
@pytest.mark.parametrize("mask", [True, "padding_mask"])
@pytest.mark.parametrize("in_place", [True, False])
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
