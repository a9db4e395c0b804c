"""Mistakes that anyone makes: the error comes at once, and says which argument it is about."""

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu import bits, information, neurons, reporting

ROWS = np.array([[3], [0], [3], [1]], np.uint8)
GROUPS = np.array([[4, 2, 1], [3, 2, 2]])


@pytest.fixture
def stored(tmp_path):
    with ts.Store(tmp_path / "run.zarr", "x") as store:
        point = ts.CapturePoint("relu", store)
        point.declare(neurons=2)
        point.append(ROWS, instances=4)
    return ts.Store(tmp_path / "run.zarr")["relu"]


# ---- yes or no ---------------------------------------------------------------------------------

NEITHER = ["no", None, 1, np.array([0, 1]), np.array(1), torch.ones(2)]


@pytest.mark.parametrize("given", NEITHER, ids=lambda given: type(given).__name__)
@pytest.mark.parametrize("name", ["by_label", "divergences", "include_out_of_step"])
def test_a_report_is_told_yes_or_no(name, given, run):
    with pytest.raises(
        TypeError, match=f"{name} must be True or False, got {type(given).__name__}"
    ):
        run.report(**{name: given})


@pytest.mark.parametrize("given", NEITHER, ids=lambda given: type(given).__name__)
def test_other_functions_are_told_yes_or_no(given, run, tmp_path):
    estimate = information.estimate(GROUPS)
    with pytest.raises(TypeError, match="same_instances must be True or False"):
        information.estimate_difference(estimate, estimate, same_instances=given)
    for name in ("opposite", "constant"):
        with pytest.raises(TypeError, match=f"{name} must be True or False"):
            neurons.equivalent_neurons(ROWS, 2, **{name: given})
    with pytest.raises(TypeError, match="overwrite must be True or False"):
        run.report().to_html(tmp_path / "page.html", overwrite=given)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("boolean", [np.bool_, np.array, torch.tensor])
def test_a_boolean_of_a_library_is_yes_or_no(boolean, run):
    """As of a comparison: an array without axes."""
    assert run.report(by_label=boolean(True)).by_label
    assert not run.report(by_label=boolean(False)).by_label


# ---- one thing where a list of them is needed --------------------------------------------------


def test_one_thing_instead_of_a_list(tmp_path):
    counts = ts.count_states(ROWS, 2)
    with pytest.raises(TypeError, match="parts must be a list of StateCounts, got StateCounts"):
        ts.merge(counts)
    with pytest.raises(TypeError, match=r"paths must be a list of paths, got \w*Path"):
        ts.merge_counts(tmp_path)
    with pytest.raises(TypeError, match="points must be a list of CapturePoints, got int"):
        ts.Run(3)
    with pytest.raises(TypeError, match="parts must be a list of arrays, got NoneType"):
        bits.concatenate_neurons(None, [2])
    with pytest.raises(TypeError, match="efficiencies must be a list of Estimates, got Estimate"):
        information.estimate_network_efficiency(information.estimate(GROUPS, "efficiency", 2))


def test_counts_that_are_not_by_label():
    for given in (GROUPS, [GROUPS], None):
        with pytest.raises(TypeError, match="by_label must be a dict"):
            information.estimate_mutual_information(given)


# ---- tensors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pictures_of_weights_that_learn(dtype):
    weight = torch.nn.Conv2d(1, 4, 3, dtype=dtype).weight
    for draw in (reporting.plot_weights, reporting.plot_outputs):
        of_parameter = draw(weight[:, 0]).images[0].get_array()
        of_array = draw(weight[:, 0].detach().float().numpy()).images[0].get_array()
        np.testing.assert_array_equal(of_parameter, of_array)


def test_labels_that_are_no_array():
    with pytest.raises(TypeError, match="predicted cannot be read as an array, got list"):
        reporting.plot_confusion_matrix([0, 1], [[0], [0, 1]])
    with pytest.raises(TypeError, match="labels is a masked array"):
        reporting.plot_confusion_matrix(np.ma.masked_array([0, 1], [0, 1]), [0, 1])


def test_inputs_chosen_by_tensors(run, stored):
    for layer in (run["relu"], stored):
        assert layer.histogram(torch.tensor([0, 2])).total == 2
        assert layer.histogram(torch.tensor([True, False, False, True])).total == 2
        for wrong in (torch.ones(2, requires_grad=True), torch.ones(2, device="meta")):
            with pytest.raises(TypeError, match="index"):
                layer.histogram(wrong)


# ---- other kinds -------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["abc", None, 1j, [1.0], torch.ones(2)])
def test_correlations_of_constant_neurons_are_a_number(given):
    with pytest.raises(TypeError, match="constant"):
        neurons.correlations(ROWS, 2, constant=given)


@pytest.mark.parametrize("given", [5, 2.5, ["a"], object()])
def test_the_name_of_counted_rows_is_a_text(given, tmp_path):
    with pytest.raises(TypeError, match=f"name must be a str, got {type(given).__name__}"):
        ts.count_part(ROWS, 0, 2, tmp_path / "part", name=given)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("given", [1.5, "1", np.array([0, 1]), torch.ones(2)])
def test_chunks_from_where_and_to_where(given, stored):
    with pytest.raises(TypeError, match="start"):
        stored.chunks(given)
    with pytest.raises(TypeError, match="stop"):
        stored.chunks(0, given)


def test_divergences_of_something_else():
    for given in (None, GROUPS, {"labels": 1}):
        with pytest.raises(TypeError, match="found must be ClassDivergences"):
            reporting.divergences_to_pandas(given)


def test_the_first_order_of_an_efficiency():
    with pytest.raises(ValueError, match="alpha1 must be from 0"):
        ts.count_states(ROWS, 2).efficiency(-1)


def test_the_title_of_a_page_is_a_text(run, tmp_path):
    with pytest.raises(TypeError, match="title must be a str, got int"):
        run.report().to_html(tmp_path / "page.html", title=5)


# ---- choices -----------------------------------------------------------------------------------

NO_CHOICE = [5, None, b"x", np.array(["entropy", "x"]), ["entropy"], {"a": 1}, torch.ones(2)]


@pytest.mark.parametrize("given", NO_CHOICE, ids=lambda given: type(given).__name__)
def test_a_choice_is_one_of_some_texts(given, run, tmp_path):
    """An array compares with each text, and its truth value would be an error of NumPy's."""
    model = torch.nn.Linear(2, 3)
    graph = torch.nn.Sequential(model)
    counts = ts.count_states(ROWS, 2)
    calls = {
        "keep": lambda: ts.CapturePoint("a", keep=given),
        "method": lambda: ts.build_efficiency_model(model, method=given),
        "missing": lambda: ts.build_efficiency_model(model, missing=given),
        "mode": lambda: ts.Store(tmp_path / "run.zarr", given),
        "durability": lambda: ts.Store(tmp_path / "run.zarr", "x", durability=given),
        "unfinished": lambda: ts.open_stores([tmp_path], unfinished=given),
        "measure": lambda: information.estimate(GROUPS, given),
        "colour_by": lambda: reporting.draw_architecture(graph, run.report(), given),
        "estimator": lambda: counts.entropy(estimator=given),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"{name} must be one of"):
            call()
    with pytest.raises(ValueError, match="estimator must be one of"):
        information.coverage([1, 2], given)
    if given is not None:
        with pytest.raises(ValueError, match="when must be one of"):
            ts.CapturePoint("a", when=given)
        with pytest.raises(ValueError, match="phases must be of"):
            ts.StateMonitor(model, phases=[given])


# ---- arguments of other functions --------------------------------------------------------------


@pytest.mark.parametrize("function", [ts.capture, ts.build_efficiency_model])
def test_too_many_arguments_name_the_function_that_was_called(function):
    model, name = torch.nn.Linear(2, 3), function.__name__
    with pytest.raises(TypeError, match=rf"{name}\(\) takes from 1 to 5 positional arguments"):
        function(model, "Linear", (), "after", None, "error", 1)
    with pytest.raises(TypeError, match=rf"{name}\(\) got multiple values for argument 'attach_to"):
        function(model, "Linear", attach_to="Linear")


# ---- Dask ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["abc", 5, [1], np.ones(2)])
def test_a_client_that_is_none(given, stored, tmp_path):
    with pytest.raises(TypeError, match=r"client must be a distributed\.Client"):
        ts.count_stores(tmp_path / "run.zarr", client=given)


# ---- arrays of one number, whose type says that they can be iterated ----------------------------


@pytest.mark.parametrize("given", [np.array(5), torch.tensor(5)], ids=["numpy", "torch"])
def test_an_array_of_one_number_instead_of_a_list(given, run, stored):
    model = torch.nn.Linear(2, 3)
    for name in ("attach_to", "exclude"):
        with pytest.raises(TypeError, match=f"{name} must be a layer name"):
            ts.build_efficiency_model(model, **{name: given})
    with pytest.raises(TypeError, match="a store's path must be a str"):
        ts.open_stores(given)
    with pytest.raises(TypeError, match="layers must be a name or a list of names"):
        reporting.plot_discovery(run.report(), layers=given)


# ---- stores ------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [np.ones(2), np.ones(0), 5, b"x"])
def test_a_storage_path_is_a_path(given):
    with pytest.raises(TypeError, match="a store's path must be a str"):
        ts.build_efficiency_model(torch.nn.Linear(2, 3), storage_path=given)


def test_layers_of_a_zip_file(stored, tmp_path):
    store = ts.Store(tmp_path / "run.zarr")
    store.to_zip(tmp_path / "one.zip", "relu")  # one name is no list of letters
    store.to_zip(tmp_path / "list.zip", ["relu"])
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "list.zip").read_bytes()
    with pytest.raises(TypeError, match="layers must be a list of names, got int"):
        store.to_zip(tmp_path / "none.zip", 3)


def test_progress_of_a_sum_that_is_not_written(tmp_path):
    ts.count_states(ROWS, 2, to=tmp_path / "counts")
    with pytest.raises(TypeError, match="progress needs to="):
        ts.merge_counts([tmp_path / "counts"], progress=print)


@pytest.mark.parametrize("given", [5, b"x", ["a"], object()])
def test_where_counts_of_stores_are_written(given, stored, tmp_path):
    with pytest.raises(TypeError, match="to must be a str or a path"):
        ts.count_stores(tmp_path / "run.zarr", to=given)


@pytest.mark.parametrize("given", [torch.ones(1, requires_grad=True), [[1], [1, 2]]])
def test_a_state_that_is_none(given, tmp_path):
    counts = ts.count_states(ROWS, 2, to=tmp_path / "counts")
    with pytest.raises(TypeError, match="state"):
        counts.count_of(given)


# ---- all layers where one is meant, and other near misses ---------------------------------------


def test_all_layers_where_the_counts_of_one_are_meant(run):
    labels = [0, 0, 1, 1]
    for measure in (ts.entropy, information.coverage, information.effective_states):
        with pytest.raises(TypeError, match="counts is a Run: choose a layer"):
            measure(run)
    with pytest.raises(TypeError, match="first is a Run: choose a layer"):
        information.js_divergence(run, run)
    with pytest.raises(TypeError, match=r"counts is a dict: pass its values\(\)"):
        ts.entropy({"a": 3, "b": 1})
    with pytest.raises(TypeError, match="states must be those of one layer, got Run: choose a"):
        information.class_divergences(run, labels, rng=np.random.default_rng(0))


def test_the_path_of_a_store_where_a_model_is_meant(tmp_path):
    for path in ("run.zarr", tmp_path):
        with pytest.raises(ts.errors.NoCapturePoints, match=r"ts\.Store\(path\)\.report\(\) reads"):
            ts.report(path)


def test_measures_of_layers_are_no_estimates(run):
    """They have one, which is no method."""
    with pytest.raises(TypeError, match=r"efficiencies must be Estimates, got LayerReport$"):
        information.estimate_network_efficiency(run.report().layers)
