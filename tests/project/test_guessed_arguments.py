"""What a stranger guesses: the error says what is meant."""

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu import information, reporting

ROWS = np.array([[3], [0], [3], [1]], np.uint8)


@pytest.mark.parametrize("begin", [ts.capture, ts.build_efficiency_model])
@pytest.mark.parametrize("guessed", ["layers", "store", "mode"])
def test_an_option_that_is_not_there_shows_all_that_are(guessed, begin):
    shown = f"'{guessed}'.* keep, .*attach_to, .*storage_path"
    with (
        pytest.raises(TypeError, match=shown),
        begin(torch.nn.Linear(2, 2), **{guessed: "0"}),
    ):
        pass


def test_labels_are_given_in_passes():
    with (
        pytest.raises(TypeError, match=r"'labels'.*run\.labels\("),
        ts.capture(torch.nn.Linear(2, 2), labels=[0, 1]),
    ):
        pass


def test_an_array_instead_of_one_of_some_texts_is_not_printed(run):
    with pytest.raises(ValueError, match=r"estimator must be one of \('plugin'.*, got ndarray$"):
        information.mutual_information(run["relu"].counts_by(), np.arange(1000))


def test_two_runs_are_no_estimates(run):
    with pytest.raises(TypeError, match=r"got Run: choose a layer, whose estimate\(\) makes one"):
        information.estimate_difference(run, run)
    with pytest.raises(TypeError, match=r"got Report: a layer of its run has estimate\(\)"):
        information.estimate_difference(run.report(), run.report())


def test_what_else_is_merged(run, tmp_path):
    for given, advice in (
        (run, "merge the histogram() of their layers"),
        (run["relu"], "its histogram() is one"),
        ("run.zarr", "open_stores() reads stores as one, merge_counts() adds up stores of counts"),
    ):
        with pytest.raises(TypeError) as caught:
            ts.merge([given, given])
        assert (
            str(caught.value) == f"parts must be StateCounts, got {type(given).__name__}: {advice}"
        )
    stored = ts.count_states(ROWS, 2, to=tmp_path / "counts.zarr")
    with pytest.raises(TypeError, match=r"got StoredCounts: its load\(\) is one"):
        ts.merge([stored])


def test_the_last_part_of_a_name_is_no_name():
    model = torch.nn.ModuleDict({name: torch.nn.Sequential(torch.nn.ReLU()) for name in "ab"})
    model["mlp"] = torch.nn.Linear(2, 2)
    for guessed, advice in (
        ("0", r" \('\*0' matches 2 layers\);"),
        ("lp", r" \('\*lp' matches 1 layer\);"),
        ("nothing", ";"),
    ):
        shown = f"attach_to='{guessed}' matches no layer{advice} there are:"
        with pytest.raises(ts.errors.NoLayerMatches, match=shown), ts.capture(model, guessed):
            pass


def test_a_map_of_all_layers(run):
    with pytest.raises(TypeError, match=r"layer must be .*, got Run: choose one by its name"):
        reporting.plot_firing_map(run)
    with pytest.raises(TypeError, match=r"layer must be .*, got Report: choose one of its run"):
        reporting.plot_firing_map(run.report())


def test_states_instead_of_counts():
    for given in (ROWS, np.ones((4, 9), bool)):
        with pytest.raises((TypeError, ValueError), match=r"^counts .*: count_states\(\) counts"):
            ts.entropy(given)


def test_options_that_are_none():
    with pytest.raises(TypeError, match="options must be CaptureOptions, got dict"):
        ts.CapturePoint("relu", options={"keep": "counts"})


@pytest.mark.parametrize("given", [b"model.svg", ROWS, ["model.svg"], 1, None])
def test_the_path_of_a_drawing(given):
    with pytest.raises(TypeError, match="path must be"):
        reporting.Drawing("digraph {}").save(given)


@pytest.mark.parametrize("given", [[], {}, ROWS, None, 1])
def test_the_name_of_a_capture_point(given, run):
    with pytest.raises(TypeError, match="name must be a non-empty str"):
        run.point(given)


@pytest.mark.parametrize("given", [0, -1, float("nan"), float("inf")])
def test_a_weight_of_an_accuracy_that_is_not_given(given, run):
    with pytest.raises(ValueError, match="beta must be finite and greater than 0"):
        run.report(beta=given)


def test_a_layer_of_a_sequential_model_is_named_by_its_number():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    for given in (1, [1], np.int64(1)):
        with (
            pytest.raises(TypeError, match=r"got int\d*: a name is a str, such as '1'$"),
            ts.capture(model, given),
        ):
            pass
    with pytest.raises(TypeError, match=r"got bool$"), ts.capture(model, True):
        pass


def test_names_in_one_text_are_no_list():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU())
    with (
        pytest.raises(
            ValueError,
            match=r"'Linear, ReLU' matches no layer \(several are a list: \['Linear', 'ReLU'\]\)",
        ),
        ts.capture(model, "Linear, ReLU"),
    ):
        pass


def test_a_class_is_no_model():
    with (
        pytest.raises(
            TypeError, match=r"got the class Linear: pass a model of it, Linear\(\.\.\.\)"
        ),
        ts.capture(torch.nn.Linear),
    ):
        pass


def test_a_block_is_entered_once():
    model = torch.nn.Linear(2, 3)
    block = ts.capture(model)
    with block as run:
        model(torch.ones(4, 2))
        with pytest.raises(RuntimeError, match=r"call ts\.capture\(model, \.\.\.\) again"), block:
            pass
        model(torch.ones(4, 2))
    assert run[0].state_count == 8
    with pytest.raises(RuntimeError, match="begins once"), block:
        pass


@pytest.mark.parametrize("given", ["relu", None, [torch.nn.ReLU()], torch.nn.ReLU, torch.relu])
def test_what_a_hook_is_attached_to(given):
    hook = ts.StateCaptureHook("relu")
    with pytest.raises(TypeError, match=r"module must be a torch\.nn\.Module, got"):
        hook.attach(given)
    relu = torch.nn.ReLU()
    hook.attach(relu)
    relu(torch.ones(3, 2))
    assert hook.state_count == 3


@pytest.mark.parametrize(
    ("when", "why"),
    [
        ("eval", r"when='eval' captures passes in evaluation mode only, .* model\.eval\(\)"),
        ("train", "when='train' captures passes in training mode only"),
        (lambda model: False, "when= leaves out passes for which its function returns False"),
    ],
)
def test_why_passes_were_left_out(when, why):
    model = torch.nn.Linear(2, 3)
    model.train(when == "eval")
    with ts.capture(model, when=when) as run:
        model(torch.ones(4, 2))
    with pytest.raises(ts.errors.NothingCaptured, match=f"nothing captured yet: {why}"):
        run.report()


def test_a_switch_that_was_forgotten():
    model = torch.nn.Linear(2, 3)
    with ts.capture(model) as run:
        run[0].capture_on = False
        model(torch.ones(4, 2))
    with pytest.raises(
        ts.errors.NothingCaptured, match="nothing captured yet: capture_on is False"
    ):
        run.report()


@pytest.mark.parametrize(
    ("given", "came"),
    [("cat", "one value"), (3, "one value"), (np.ones((2, 3), int), r"shape \(2, 3\)")],
)
def test_labels_of_another_shape(given, came):
    model = torch.nn.Linear(2, 3)
    with (
        ts.capture(model) as run,
        pytest.raises(ValueError, match=f"labels must be 1-D, one for each instance, got {came}$"),
    ):
        run.labels(given)
