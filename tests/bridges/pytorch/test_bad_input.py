"""Bad input raises at once, says what came and what is accepted, and leaves the model as it was."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.torch_version import TorchVersion

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.pytorch import tensors
from tests.support.torch_models import hooks_of, images

NAN = float("nan")


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(75, 4))


@pytest.fixture
def model() -> Iterator[nn.Sequential]:
    """A model that has no hooks, no capture points and all its numbers after the test."""
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    yield model
    assert hooks_of(model) == []
    assert not hasattr(model, "efficiency_layers")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model(images(2, 1, 6, 6))


def through_capture(model: Any, *args: Any, **options: Any) -> None:
    with ts.capture(model, *args, **options):
        raise AssertionError("the block was entered")


ATTACH: dict[str, Callable[..., Any]] = {
    "build": ts.build_efficiency_model,
    "capture": through_capture,
}
attach = pytest.mark.parametrize("how", ATTACH)


@attach
@pytest.mark.parametrize("method", ["afterwards", "After", "", None, 1, ["after"]])
def test_unknown_method(model, how, method):
    with pytest.raises(
        (TypeError, ValueError), match=r"method must be one of \('before', 'after', 'both'\), got"
    ):
        ATTACH[how](model, "Conv2d", method=method)


@attach
@pytest.mark.parametrize("keep", ["rows", "", None, 1, ["states"]])
def test_unknown_keep(model, how, keep):
    with pytest.raises((TypeError, ValueError), match=r"keep must be one of .*'counts'.*, got"):
        ATTACH[how](model, "Conv2d", keep=keep)


@attach
@pytest.mark.parametrize(
    "other", [None, "Conv2d", nn.Conv2d, np.ones(3), torch.ones(3), lambda x: x, [nn.Linear(1, 1)]]
)
def test_a_model_of_no_framework(how, other):
    message = r"model must be a Keras model or a torch\.nn\.Module, got "
    with pytest.raises(TypeError, match=message):
        ATTACH[how](other, "Conv2d")


@attach
def test_no_layer_that_matches_lists_the_closest_first(model, how):
    with pytest.raises(ValueError, match="matches no layer") as raised:
        ATTACH[how](model, "Conv2D")
    listed = str(raised.value).partition("there are: ")[2].split(", ")
    assert listed[0] == "0 (Conv2d)"
    assert sorted(listed) == ["0 (Conv2d)", "1 (ReLU)", "2 (Flatten)", "3 (Linear)"]
    with pytest.raises(ValueError, match=r"there are: 3 \(Linear\), "):
        ATTACH[how](model, "Linaer")


@attach
@pytest.mark.parametrize("nothing", [[], (), [lambda name, layer: False], nn.LSTM, "conv*"])
def test_nothing_chosen(model, how, nothing):
    with pytest.raises(ValueError, match="no layer"):
        ATTACH[how](model, nothing)


@attach
def test_everything_excluded(model, how):
    with pytest.raises(ValueError, match="with exclude='0' matches no layer"):
        ATTACH[how](model, "Conv2d", exclude="0")
    # Of the default, too, and without the text of each of its layers.
    with pytest.raises(ValueError, match=r"^attach_to=<2 layers> with exclude='\*' match"):
        ATTACH[how](model, None, exclude="*")


@attach
@pytest.mark.parametrize("argument", ["attach_to", "exclude"])
@pytest.mark.parametrize("pattern", [3, [3], ["Conv2d", None]])
def test_patterns_of_another_kind(model, how, argument, pattern):
    if argument == "exclude":
        options = {"attach_to": "Conv2d", "exclude": pattern}
    else:
        options = {"attach_to": pattern}
    with pytest.raises(TypeError, match=f"{argument} must be a layer name.*, got "):
        ATTACH[how](model, **options)


@attach
def test_a_predicate_that_fails(model, how):
    def fails(name: str, layer: nn.Module) -> bool:
        raise ArithmeticError(name)

    with pytest.raises(ArithmeticError):
        ATTACH[how](model, fails)


@attach
@pytest.mark.parametrize("threshold", [NAN, [0.0, NAN], "0", None, 1j, [[0.0]], ["a"]])
def test_thresholds_that_are_none(model, how, threshold):
    with pytest.raises((TypeError, ValueError), match="threshold"):
        ATTACH[how](model, "*", method="both", threshold=threshold)


@attach
@pytest.mark.parametrize("axis", [1.0, "1", True, (1,)])
def test_a_neuron_axis_of_another_type(model, how, axis):
    with pytest.raises(TypeError, match="neuron_axis must be an integer, got"):
        ATTACH[how](model, "Conv2d", neuron_axis=axis)


@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize("axis", [4, -5, 100])
def test_a_neuron_axis_out_of_range(model, axis, keep):
    # How many axes there are is seen in the first batch.
    with ts.capture(model, "Conv2d", neuron_axis=axis, keep=keep) as run:
        with pytest.raises(ValueError, match=rf"neuron_axis.*{axis}|{axis}.*neuron_axis"):
            model(images(2, 1, 6, 6))
        assert run["0_post_states"].neurons is None
        assert run["0_post_states"].state_count == 0


@attach
def test_a_storage_path_with_other_content(model, how, tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "mine.txt").write_text("do not touch")
    file = tmp_path / "file"
    file.write_text("nor this")
    for path in (folder, str(folder), file):
        with pytest.raises((ValueError, FileExistsError), match=r"notes|file"):
            ATTACH[how](model, "*", method="both", storage_path=path)
        assert hooks_of(model) == []
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    assert (folder / "mine.txt").read_text() == "do not touch"
    assert file.read_text() == "nor this"


@attach
def test_a_storage_path_that_holds_a_run(model, how, tmp_path):
    path = tmp_path / "states"
    other = network()
    with ts.capture(other, "Conv2d", storage_path=path) as run:
        other(images(2, 1, 6, 6))
    rows = run["0_post_states"].raw_states.copy()
    with pytest.raises(ValueError, match="states"):
        ATTACH[how](model, "*", storage_path=path)
    np.testing.assert_array_equal(run["0_post_states"].raw_states, rows)


@attach
def test_a_storage_path_with_one_of_the_names_frees_the_others(model, how, tmp_path):
    path = tmp_path / "states"
    first = ts.build_efficiency_model(network(), "Linear", storage_path=path)
    with pytest.raises(ValueError, match="already has states of '3_post_states'"):
        ATTACH[how](model, "*", storage_path=path)
    assert hooks_of(model) == []
    second = ts.build_efficiency_model(network(), "Conv2d", storage_path=path)
    first(images(2, 1, 6, 6))
    second(images(3, 1, 6, 6))
    assert first.efficiency_layers[0].raw_states.shape == (2, 1)
    assert second.efficiency_layers[0].raw_states.shape == (75, 1)


@attach
@pytest.mark.parametrize("path", [3, 1.5, ["a"]])
def test_a_storage_path_of_another_type(model, how, path):
    with pytest.raises(TypeError):
        ATTACH[how](model, "Conv2d", storage_path=path)


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_a_neuron_count_that_changes_between_batches(keep):
    layer = nn.Sequential(nn.ReLU())
    with ts.capture(layer, "ReLU", keep=keep) as run:
        layer(images(4, 9))
        with pytest.raises(ValueError, match="0_post_states: a batch has 10 neurons, earlier"):
            layer(images(4, 10))
        layer(images(1, 9))
    assert (run["0_post_states"].state_count, run["0_post_states"].neurons) == (5, 9)
    assert run["0_post_states"].counts().sum() == 5
    run.reset()
    with ts.capture(layer, "ReLU", keep=keep) as run:
        layer(images(4, 10))
    assert run["0_post_states"].neurons == 10


@pytest.mark.parametrize("function", [ts.reset_efficiency_model, ts.remove_state_layers])
def test_models_without_capture_points(model, function):
    with pytest.raises(ValueError, match="Sequential has no capture points"):
        function(model)


@pytest.mark.parametrize("function", [ts.network_efficiency, ts.report])
def test_measures_of_models_without_capture_points(model, function):
    with pytest.raises((TypeError, ValueError), match=r"Sequential|Conv2d"):
        function(model)


def test_a_bad_second_call_leaves_the_first_ones_points():
    model = ts.build_efficiency_model(network(), "Conv2d")
    points, hooks = list(model.efficiency_layers), hooks_of(model)
    for options in ({"keep": "rows"}, {"method": "x"}, {"threshold": NAN}, {"attach_to": "x"}):
        with pytest.raises(ValueError, match=r"must be one of|threshold|matches no"):
            ts.build_efficiency_model(model, **{"attach_to": "*", **options})
        assert model.efficiency_layers == points
        assert hooks_of(model) == hooks


def test_errors_inside_a_hook_name_the_layer():
    model = nn.Sequential(nn.ReLU())
    one_per_neuron = pytest.raises(ValueError, match="one per neuron")
    with ts.capture(model, "ReLU", threshold=[0.0, 1.0]), one_per_neuron as raised:
        model(torch.ones(2, 3))
    assert "while capturing 0_post_states" in raised.value.__notes__


def test_a_layer_that_never_fires_is_named_when_it_is_read():
    model = nn.Sequential(nn.Linear(3, 4), nn.ModuleDict({"unused": nn.Linear(4, 4)}))
    with ts.capture(model, "Linear") as run:
        model[0](torch.ones(2, 3))
    assert run.report().missing == ("1.unused_post_states",)
    with pytest.raises(ValueError, match=r"1\.unused_post_states: nothing captured.*never called"):
        run["1.unused_post_states"].entropy()


def test_an_older_torch_is_told():
    with pytest.warns(UserWarning, match=r"this is torch 2\.7\.1: captures .* may miss passes"):
        tensors._check_version(TorchVersion("2.7.1"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for version in ("2.11.0", "2.11.0+cu130", "2.13.0", "3.0"):
            tensors._check_version(TorchVersion(version))
