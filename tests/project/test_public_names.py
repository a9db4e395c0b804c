"""What is public: exactly what the public packages list, under names that survive moves."""

import ast
import doctest
import importlib
import inspect
import pickle
import pkgutil
import types
from pathlib import Path

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._listed_names import listed_names
from tests.support.public_doctests import defined_in

ROOT = Path(__file__).parent.parent.parent
CALLBACKS = {"EfficiencyCallback", "EfficiencyMonitor", "StateEfficiency"}
OF_A_FRAMEWORK = {
    *("PaddedCounts", "StateCapture", "StateCaptureHook", "count_stores", "tap", *CALLBACKS),
}
PACKAGES = {
    "tensorstate_gpu.bits": {
        *("UniqueStates", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor"),
        *("concatenate_neurons", "hamming_distances", "isin", "nearest_states"),
        *("slice_neurons", "states_within", "unique"),
    },
    "tensorstate_gpu.information": {
        *("Estimate", "estimate", "estimate_aIQ", "estimate_difference"),
        *("estimate_mutual_information", "estimate_network_efficiency"),
        *("PermutationTest", "UnseenShare", "aIQ", "ceiling", "coverage", "cross_entropy"),
        *("ClassDivergences", "class_divergences"),
        *("effective_states", "efficiency", "entropy", "js_divergence", "kl_divergence"),
        *("mutual_information", "network_efficiency", "permutation_test", "rarefaction"),
        *("total_variation", "unseen_share"),
    },
    "tensorstate_gpu.neurons": {
        *("EquivalentNeurons", "TopStates", "active_neurons", "always_on", "cofiring"),
        *("correlations", "dead", "equivalent_neurons", "firing_rates", "neuron_entropies"),
        *("patterns_seen", "top_states"),
    },
    "tensorstate_gpu.reporting": {
        *("Drawing", "LabelTable", "LayerReport", "Report", "draw_architecture"),
        *("plot_class_divergences", "plot_correlations", "plot_discovery", "plot_efficiency"),
        *("plot_firing_map", "plot_firing_rates", "plot_rank_frequency", "plot_training", "report"),
        *("plot_confusion_matrix", "plot_errors", "plot_outputs", "plot_weights"),
        *("training_to_arrow", "training_to_pandas"),
        *("correlations_to_arrow", "correlations_to_pandas", "divergences_to_arrow"),
        *("divergences_to_pandas", "firing_map_to_arrow", "firing_map_to_pandas"),
    },
    "tensorstate_gpu.store": {
        *("JoinedLayer", "Store", "StoredLayer", "Stores", "Verification", "open_counts"),
        *("count_part", "merge_counts", "merge_range", "open_stores"),
    },
    "tensorstate_gpu.training": {"StateMonitor"},
}
MODULES = {
    "tensorstate_gpu.testing": {
        *("ELEMENTS", "activations", "compress", "count", "decompress", "packed_states"),
        *("popcount", "sort", "special_bits"),
    },
}


@pytest.mark.parametrize("package", PACKAGES | MODULES)
def test_a_public_package_lists_what_is_public(package):
    module = importlib.import_module(package)
    # Not CALLBACKS, which would import their frameworks here.
    listed = set(module.__all__) - CALLBACKS
    assert listed == (PACKAGES | MODULES)[package]
    for name in listed:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", [*PACKAGES, "tensorstate_gpu", "tensorstate_gpu.errors"])
def test_completion_offers_what_is_public(package):
    """And no modules or functions inside, of which there would be as many."""
    module = importlib.import_module(package)
    assert sorted(dir(module)) == sorted(module.__all__)


def layers_of_each_kind(tmp_path):
    """With names for users that the others do not have."""
    point = ts.CapturePoint("a", tmp_path / "run.zarr")
    point.declare(neurons=2)
    point.append(np.array([[1], [3]], np.uint8), instances=2)
    point.close()
    stores = ts.open_stores([tmp_path / "run.zarr"])
    of_point, of_rows = {"append", "declare", "threshold"}, {"dtype", "labels", "shape"}
    yield point, of_point
    yield ts.StateCaptureHook("b"), of_point | {"attach", "detach"}
    yield stores.parts[0]["a"], of_rows
    yield stores["a"], of_rows


def test_layers_list_what_is_for_users(tmp_path):
    """Not the forty methods by which bridges, stores and reports use them."""
    of_each = {"counts", "efficiency", "entropy", "estimate", "name", "raw_states", "to_pandas"}
    for layer, own in layers_of_each_kind(tmp_path):
        listed = {name for name in dir(layer) if not name.startswith("_")}
        assert listed >= of_each | own
        assert not listed & {"accumulator", "check_captured", "facts", "intake", "note", "reader"}
        for name in listed - {"name"}:
            assert hasattr(type(layer), name), name


def objects_of_each_kind(tmp_path):
    layers = [layer for layer, _ in layers_of_each_kind(tmp_path)]
    store = ts.Store(tmp_path / "run.zarr")
    stores = ts.open_stores([tmp_path / "run.zarr"])
    groups = [layers[0].grouped(2), layers[2].counted_groups(2)]
    return [*layers, ts.Run(layers[:1]), store, stores, layers[0].histogram(), *groups]


def test_each_name_that_a_class_lists_is_there(tmp_path):
    kinds = [type(each) for each in objects_of_each_kind(tmp_path)]
    known = {kind: listed_names(kind) for kind in [*kinds, ts.RankRun]}
    assert all(known.values())
    listed_elsewhere = {"name", "parts", "ranks"}  # attributes that __init__ sets
    for kind, names in known.items():
        assert {name for name in names if not hasattr(kind, name)} <= listed_elsewhere, kind


def test_objects_list_what_is_for_users(tmp_path):
    """Not what estimates, reports and bridges need of them."""
    internal = {"drain", "group_sums", "group_table", "has_ended", "many_with", "report_origin"}
    internal |= {"record", "session", "trusted", "unchecked"}
    *_, run, store, stores, counts, groups, stored_groups = objects_of_each_kind(tmp_path)
    for each in (run, store, stores, counts, groups, stored_groups):
        assert not internal & {*dir(each)}, each
    for network in (run, store, stores):
        assert {"items", "keys", "network_efficiency", "report", "values"} <= {*dir(network)}
    assert {"merge", "packed", "entropy"} <= {*dir(counts)}


def test_a_subclass_lists_its_own_names_too():
    class Own(ts.Run):
        def plot(self):
            pass

    assert "plot" in dir(Own([]))
    assert "drain" not in dir(Own([]))


def test_exceptions_are_public_and_built_in_errors_too():
    from tensorstate_gpu import errors

    kinds = [getattr(errors, name) for name in errors.__all__]
    assert {kind.__name__ for kind in vars(errors).values() if isinstance(kind, type)} == {
        *errors.__all__
    }
    warnings = {kind for kind in kinds if issubclass(kind, UserWarning)}
    for kind in set(kinds) - {errors.TensorStateError} - warnings:
        assert issubclass(kind, errors.TensorStateError)
        assert issubclass(kind, (ValueError, RuntimeError))


def public_classes():
    names = set(ts.__all__) - OF_A_FRAMEWORK
    found = {f"tensorstate_gpu.{name}": getattr(ts, name) for name in names}
    for package, names in PACKAGES.items():
        module = importlib.import_module(package)
        found |= {f"{package}.{name}": getattr(module, name) for name in names}
    return {name: kind for name, kind in found.items() if isinstance(kind, type)}


def test_public_classes_are_named_after_public_packages():
    public = public_classes()
    assert {f"{kind.__module__}.{kind.__name__}" for kind in public.values()} <= public.keys()


def test_a_pickle_names_the_public_package():
    counts = ts.count_states(np.array([[3], [0], [3]], np.uint8), neurons=2)
    data = pickle.dumps(counts)
    assert pickle.loads(data) == counts
    assert b"_states" not in data
    assert b"tensorstate_gpu" in data


@pytest.mark.parametrize("package", ["tensorstate_gpu", *PACKAGES])
def test_no_module_has_the_name_of_what_its_package_exports(package):
    """Importing the module would replace the function."""
    module = importlib.import_module(package)
    modules = {found.name for found in pkgutil.iter_modules(module.__path__)}
    names = set(module.__all__) - CALLBACKS
    packages = {name for name in names if inspect.ismodule(getattr(module, name, None))}
    assert not modules & (set(module.__all__) - OF_A_FRAMEWORK - packages)


@pytest.mark.parametrize("package", PACKAGES)
def test_signatures_name_types_as_their_source_does(package):
    """Evaluated, ArrayLike is half a screen of NumPy's private names at the top of help()."""
    for name in PACKAGES[package]:
        value = getattr(importlib.import_module(package), name)
        if inspect.isfunction(value):
            assert "_typing." not in str(inspect.signature(value)), name


# ---- doctests ----------------------------------------------------------------------------------


def documented(path):
    """How many docstrings of a file have examples."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds))
    return sum(">>>" in (ast.get_docstring(node) or "") for node in nodes)


def with_examples():
    """Modules without a framework whose docstrings have examples, and how many have."""
    for path in sorted((ROOT / "tensorstate_gpu").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if (count := documented(path)) and parts[-1] != "__init__":
            yield ".".join(parts), count


# Those of a setting are shown by what sets it; figures and drawings are in the documents.
SHOWN_ELSEWHERE = {"get_memory_limit", "get_num_threads"}


WITH_EXAMPLES = [each for each in PACKAGES if each != "tensorstate_gpu.reporting"]


@pytest.mark.parametrize("package", ["tensorstate_gpu", *WITH_EXAMPLES])
def test_each_public_function_has_an_example(package):
    names = {*importlib.import_module(package).__all__} - OF_A_FRAMEWORK - SHOWN_ELSEWHERE
    values = {name: getattr(importlib.import_module(package), name) for name in names}
    assert not {
        name
        for name, value in values.items()
        if inspect.isfunction(value) and ">>>" not in value.__doc__
    }


@pytest.mark.parametrize(
    "kind", [ts.Run, ts.StoredCounts, ts.information.Estimate, ts.reporting.Report]
)
def test_what_functions_return_has_an_example(kind):
    assert ">>>" in kind.__doc__


def examples_found(module):
    return sum(bool(test.examples) for test in doctest.DocTestFinder().find(module))


@pytest.mark.parametrize(("name", "count"), list(with_examples()))
def test_every_example_is_found(name, count):
    assert examples_found(importlib.import_module(name)) == count


def test_a_wrong_example_of_a_public_class_fails():
    module = types.ModuleType("planted")
    code = 'class Planted:\n    """\n    >>> 1 + 1\n    3\n    """\n'
    exec(f'{code}    __module__ = "elsewhere"\n    def method(self): ...\n', vars(module))
    assert defined_in(module.Planted, module)
    (test,) = (test for test in doctest.DocTestFinder().find(module) if test.examples)
    assert doctest.DocTestRunner(verbose=False).run(test, out=lambda _: None).failed == 1
