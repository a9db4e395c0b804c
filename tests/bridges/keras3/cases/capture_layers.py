"""What programs for TensorState do with StateCapture: ask for its class, and switch it off."""

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts

X = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")


def placed_by_hand():
    seen = ts.StateCapture("seen")
    return seen, keras.Sequential([keras.Input((4,)), layers.Dense(5), seen])


@pytest.mark.each_process
def test_a_layer_that_is_switched_off_captures_nothing():
    seen, model = placed_by_hand()
    for capture_on in (True, False, True):
        seen.capture_on = capture_on
        assert seen.capture_on is seen.point.capture_on is capture_on
        model.predict(X, verbose=0)
    assert seen.state_count == 40


@pytest.mark.parametrize("kind", ["StateCapture", "AbstractStateCapture"])
def test_a_class_switches_all_its_points(kind, monkeypatch):
    seen, model = placed_by_hand()
    captured = ts.build_efficiency_model(model, "Dense")
    monkeypatch.setattr(getattr(ts, kind), "capture_on", False)
    captured.predict(X, verbose=0)
    monkeypatch.undo()
    assert ts.StateCapture.capture_on
    captured.predict(X[:7], verbose=0)
    assert [seen.state_count, captured.efficiency_layers[0].state_count] == [7, 7]


@pytest.mark.parametrize("value", ["no", None, 0])
def test_a_switch_takes_only_true_and_false(value):
    seen, _ = placed_by_hand()
    for switched in (seen, seen.point, ts.StateCapture):
        with pytest.raises(TypeError, match="capture_on must be a bool"):
            switched.capture_on = value
        assert switched.capture_on is True


def test_capture_points_and_layers_are_of_both_classes():
    seen, model = placed_by_hand()
    (point,) = ts.build_efficiency_model(model, "Dense").efficiency_layers
    for each in (seen, point):
        assert isinstance(each, ts.StateCapture)
        assert isinstance(each, ts.AbstractStateCapture)
    assert not isinstance(model.layers[0], ts.StateCapture)
    assert not isinstance(ts.CapturePoint("other"), ts.StateCapture)
    assert {"efficiency", "counts", "raw_states", "reset_states"} <= {*dir(seen)}
    assert "snapshot" not in dir(seen)  # which reports call


def test_a_model_can_list_its_layers_itself():
    seen, model = placed_by_hand()
    model.efficiency_layers = [seen]
    model.predict(X, verbose=0)
    assert ts.Run(model.efficiency_layers)["seen"] is seen.point
    assert ts.report(model).layers[0].states == 20
    ts.reset_efficiency_model(model)
    assert seen.state_count == 0


@pytest.mark.parametrize(("image_format", "neurons"), [("channels_last", 4), ("channels_first", 8)])
def test_a_reset_takes_the_axis_of_the_layer(image_format, neurons):
    captured = ts.build_efficiency_model(
        keras.Sequential(
            [
                keras.Input((8, 8, 2) if image_format == "channels_last" else (2, 8, 8)),
                layers.ReLU(name="act"),
                layers.Conv2D(4 if neurons == 4 else 8, 1, data_format=image_format, name="conv"),
            ]
        ),
        "conv",
    )
    (point,) = captured.efficiency_layers
    point.reset_states((None, 8, 5, 4))
    assert point.max_entropy() == neurons
