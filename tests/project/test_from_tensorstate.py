"""The table of differences from TensorState: each cell about this package is checked."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts

PAGE = (Path(__file__).parents[2] / "docs/from_tensorstate.md").read_text()
X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 9), nn.ReLU())


def captured(model=None, x=X, attach_to="Linear"):
    model = ts.build_efficiency_model(model or network(), attach_to)
    model(x)
    return model, model.efficiency_layers[0]


def measures_are_floats():
    model, point = captured()
    values = [
        point.entropy(),
        point.efficiency(),
        ts.network_efficiency(model),
        ts.aIQ(0.5, 0.5, 2),
    ]
    assert [type(value) for value in values] == [float] * 4


def the_maximum_is_an_int():
    assert type(captured()[1].max_entropy()) is int


def inputs_are_captured_too():
    model = ts.build_efficiency_model(network(), "Linear", method="both")
    model(X)
    before, after = model.efficiency_layers
    assert (before.name, after.name) == ("0_pre_states", "0_post_states")
    assert np.array_equal(ts.decompress_states(before.raw_states, 4), X.numpy() > 0)


def states_per_instance_are_an_int():
    _, point = captured(x=torch.ones(2, 5, 4))
    assert (type(point.states_per_instance()), point.states_per_instance()) == (int, 5)
    point.append(np.zeros((3, 2), np.uint8), 1)
    with pytest.raises(ValueError, match="instances differ"):
        point.states_per_instance()


def counts_are_read_only():
    counts = captured()[1].counts()
    assert (counts.dtype, counts.flags.writeable) == (np.int64, False)


def ids_are_sorted_as_integers():
    ids = captured(x=torch.randn(200, 4))[1].state_ids()
    assert ids == sorted(ids, key=lambda each: int.from_bytes(each, "little"))


def raw_states_are_an_array():
    raw = captured()[1].raw_states
    assert (type(raw), raw.dtype, raw.shape) == (np.ndarray, np.uint8, (6, 2))


def an_empty_capture_says_so():
    hook = ts.StateCaptureHook("a")
    assert hook.state_count == 0
    for read in (hook.counts, hook.entropy, hook.efficiency, hook.max_entropy, hook.state_ids):
        with pytest.raises(ts.errors.NothingCaptured):
            read()
    assert issubclass(ts.errors.NothingCaptured, ValueError)


def a_reset_needs_no_shape():
    ts.StateCaptureHook("a").reset_states()


def a_reset_takes_the_axis_of_the_layer():
    hook = ts.StateCaptureHook("a")
    hook.attach(nn.Linear(4, 9))
    hook.reset_states((2, 5, 9))
    assert hook.max_entropy() == 9


def axes_are_followed():
    assert captured(x=torch.ones(2, 5, 4), attach_to="ReLU")[1].neurons == 9


def calls_have_layers_of_their_own():
    act = nn.ReLU()
    twice = nn.Sequential(act, nn.Linear(4, 4), act)
    assert len(captured(twice, attach_to="ReLU")[0].efficiency_layers) == 2
    with ts.capture(twice, "ReLU", merge_calls=True) as run:
        twice(X)
    assert [point.state_count for point in run.values()] == [12]


def points_can_be_switched_off():
    model, point = captured()
    point.capture_on = False
    model(X)
    ts.StateCaptureHook.capture_on = False
    point.capture_on = True
    try:
        other = ts.StateCaptureHook("other")
        other.attach(model[1])
        model(X)
    finally:
        del ts.StateCaptureHook.capture_on
    assert (point.state_count, other.state_count) == (12, 0)


def a_second_call_decides():
    model, linear = captured(attach_to=["Linear", "ReLU"])
    ts.build_efficiency_model(model, "Linear")
    assert model.efficiency_layers == [linear]
    assert linear.state_count == 6


def nothing_that_matches_is_an_error():
    with pytest.raises(ts.errors.NoLayerMatches):
        ts.build_efficiency_model(network(), "LSTM")
    with pytest.warns(ts.errors.UnmatchedNameWarning):
        assert ts.build_efficiency_model(network(), "LSTM", missing="warn").efficiency_layers == []


def the_model_has_the_name_of_its_class():
    assert captured(attach_to="Sequential")[1].name == "Sequential_post_states"


def names_in_pytorch():
    model = ts.build_efficiency_model(network(), "Linear", method="both")
    assert [each.name for each in model.efficiency_layers] == ["0_pre_states", "0_post_states"]
    run = ts.Run(captured()[0].efficiency_layers)
    assert run["0"] is run["0_post_states"]


def models_have_a_subclass_of_the_same_name():
    model, _ = captured()
    assert isinstance(model, nn.Sequential)
    assert type(model) is not nn.Sequential
    assert type(model).__name__ == "Sequential"


def only_own_hooks_are_removed():
    model, _ = captured()
    model[0].register_forward_hook(hook := lambda *_: None)
    ts.remove_state_layers(model)
    assert [*model[0]._forward_hooks.values()] == [hook]


def no_layers_have_no_efficiency():
    with pytest.raises(ValueError, match="empty"):
        ts.network_efficiency([])


def an_efficiency_of_zero_is_told():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ts.network_efficiency([0.0, 0.5]) == 0
    model, _ = captured(nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)), attach_to="Softmax")
    assert "1_post_states all neurons always fire" in " ".join(str(ts.report(model)).split())


def weights_of_accuracy_are_real():
    assert ts.aIQ(0.5, 0.5, 1.5) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="greater than 0"):
        ts.aIQ(0.5, 0.5, 0)


def orders_are_any():
    point = captured()[1]
    assert point.efficiency(1, 2) == point.entropy(1) / point.entropy(2)


def there_are_no_devices_to_choose():
    for option in ("memory_device", "gpu_buffer_size"):
        with pytest.raises(TypeError, match=option):
            ts.StateCaptureHook("a", **{option: 1})


def states_are_counted():
    assert captured(x=torch.ones(2, 5, 4))[1].state_count == 10


def old_stores_can_be_copied():
    assert callable(ts.Store.from_tensorstate)  # tests/store/test_tensorstate_import.py


def other_models_are_refused():
    class Model:
        __module__ = "tf_keras.src.engine.training"

    with pytest.raises(TypeError, match="must be a Keras model or a torch"):
        ts.build_efficiency_model(Model(), "Dense")


CHECKS = {
    "`entropy()`, `efficiency()`, `network_efficiency`, `aIQ`": measures_are_floats,
    "`max_entropy()`": the_maximum_is_an_int,
    "`states_per_instance()`": states_per_instance_are_an_int,
    "`counts()`": counts_are_read_only,
    "`state_ids()`": ids_are_sorted_as_integers,
    "`raw_states`": raw_states_are_an_array,
    "before the first batch": an_empty_capture_says_so,
    "`reset_states()` before the first batch": a_reset_needs_no_shape,
    "`reset_states(shape)`": a_reset_takes_the_axis_of_the_layer,
    "activations of 3 axes, `(batch, positions, features)`": axes_are_followed,
    '`method="before"` or `"both"` in PyTorch': inputs_are_captured_too,
    "several calls of one module in a pass": calls_have_layers_of_their_own,
    "`capture_on = False`": points_can_be_switched_off,
    "a second `build_efficiency_model`": a_second_call_decides,
    "no layer matches": nothing_that_matches_is_an_error,
    "the model by the name of its class": the_model_has_the_name_of_its_class,
    "names of layers in PyTorch": names_in_pytorch,
    "class of a captured PyTorch model": models_have_a_subclass_of_the_same_name,
    "`remove_state_layers`": only_own_hooks_are_removed,
    "`network_efficiency([])`": no_layers_have_no_efficiency,
    "an efficiency of 0": an_efficiency_of_zero_is_told,
    "`aIQ` with a weight that is no integer": weights_of_accuracy_are_real,
    "`efficiency(alpha1, alpha2)`": orders_are_any,
    "`memory_device=`, `gpu_buffer_size=` (later versions)": there_are_no_devices_to_choose,
    "`state_count` (0.6 in development)": states_are_counted,
    "stores": old_stores_can_be_copied,
    "Keras 2 (`tf_keras`)": other_models_are_refused,
}


# tests/bridges/keras3/cases/documents.py, where Keras is loaded.
CHECKED_THERE = ["names of layers in Keras", "class of a captured Keras model"]


def test_each_row_has_a_check():
    table = PAGE[PAGE.index("| what | TensorState 0.4 |") :].partition("\n\n")[0]
    rows = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in table.splitlines()[2:]]
    names = [row[0] for row in rows]
    assert [name for name in names if name not in CHECKED_THERE] == [*CHECKS]
    assert [name for name in names if name in CHECKED_THERE] == CHECKED_THERE
    assert all(len(row) == 3 for row in rows)


@pytest.mark.parametrize("check", CHECKS.values(), ids=lambda check: check.__name__)
def test_the_row_is_true(check):
    check()
