"""Mutual information of states and labels, and its permutation test."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tensorstate_gpu import StateCounts, count_states
from tensorstate_gpu.information import (
    entropy,
    js_divergence,
    mutual_information,
    permutation_test,
)
from tests.information.reference_values import TABLES

ESTIMATORS = ["plugin", "miller-madow", "grassberger", "jackknife", "chao-shen", "chao-wang-jost"]


@pytest.mark.parametrize("name", TABLES)
def test_reference_values(name):
    table = TABLES[name]
    for estimator in ("plugin", "miller-madow"):
        expected = pytest.approx(table[estimator], abs=1e-12)
        assert mutual_information(table["labels_by_states"], estimator) == expected
        by_label = dict(enumerate(table["labels_by_states"]))
        assert mutual_information(by_label, estimator) == expected


@given(
    arrays(
        np.int64, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=st.integers(0, 9)
    ).filter(np.any),
    st.sampled_from(ESTIMATORS),
)
def test_between_zero_and_the_entropy_of_labels(table, estimator):
    value = mutual_information(table, estimator)
    assert 0 <= value <= entropy(table.sum(axis=1), estimator=estimator)
    assert value == pytest.approx(mutual_information(table[::-1, ::-1], estimator), abs=1e-12)


def test_histograms_by_label():
    rng = np.random.default_rng(3)
    states, labels = rng.integers(0, 50, (3, 200)), [7, "b", 9]
    by_label = {
        label: count_states(rows[:, None].astype(np.uint8), 6)
        for label, rows in zip(labels, states, strict=True)
    }
    table = [np.bincount(rows, minlength=50) for rows in states]
    for estimator in ESTIMATORS:
        assert mutual_information(by_label, estimator) == pytest.approx(
            mutual_information(table, estimator), abs=1e-12
        )


@pytest.mark.parametrize("on_disk", [[0], [1], [2], [0, 1], [0, 2], [1, 2, 3], [0, 1, 2, 3, 4]])
def test_histograms_in_memory_and_on_disk_together(on_disk, tmp_path):
    states = np.random.default_rng(4).integers(0, 50, (5, 200, 1)).astype(np.uint8)
    by_label = {label: count_states(rows, 6) for label, rows in enumerate(states)}
    expected = mutual_information(by_label)
    for label in on_disk:
        by_label[label] = count_states(states[label], 6, to=tmp_path / f"{label}.zarr")
    assert mutual_information(by_label) == pytest.approx(expected, abs=1e-12)


def test_one_label_tells_nothing():
    assert mutual_information([[3, 1, 1]]) == 0
    assert mutual_information({"a": StateCounts(np.array([[1]], np.uint8), np.array([1]), 2)}) == 0
    assert mutual_information([[3, 1, 1], [0, 0, 0]]) == 0


@pytest.mark.parametrize(
    ("by_label", "error"),
    [
        ([], TypeError),
        ([1, 2], TypeError),
        ([[0.5, 0.5]], TypeError),
        (np.ones((9, 2), np.uint8), TypeError),  # packed states
        ([[0, 0]], ValueError),
        ([[1, -1]], ValueError),
        ({float("nan"): [1, 2], 1: [2, 1]}, ValueError),
        ([[2**62, 2**62], [1, 1]], OverflowError),
    ],
)
def test_invalid_histograms(by_label, error):
    with pytest.raises(error, match="by_label"):
        mutual_information(by_label)


def test_histograms_and_arrays_are_not_mixed():
    counts = count_states(np.array([[1], [2]], np.uint8), 2)
    for by_label in ({0: counts, 1: [1, 1]}, {0: [1, 1], 1: counts}):
        with pytest.raises(TypeError, match="or arrays alone, got StateCounts and list"):
            mutual_information(by_label)


@pytest.mark.parametrize("estimator", ["nsb", "unbiased", "none"])
def test_estimators_that_pairs_do_not_have(estimator):
    with pytest.raises(ValueError, match="estimator"):
        mutual_information([[1, 2], [2, 1]], estimator)
    with pytest.raises(ValueError, match="estimator"):
        permutation_test([1, 2], [1, 2], 0, estimator=estimator)


# ---- permutations -------------------------------------------------------------------------------


def dependent_rows(rng, instances, rows):
    """Each instance shows few states, whatever its label."""
    favourites = rng.integers(0, 200, (instances, 2))
    return np.take_along_axis(favourites, rng.integers(0, 2, (instances, rows)), axis=1).ravel()


def test_value_is_the_mutual_information():
    rng = np.random.default_rng(4)
    labels, states = rng.integers(0, 3, 40), rng.integers(0, 9, 80)
    table = [np.bincount(states[np.repeat(labels, 2) == label], minlength=9) for label in range(3)]
    for estimator in ("plugin", "chao-wang-jost"):
        test = permutation_test(
            states, labels, rng, instances="equal", permutations=9, estimator=estimator
        )
        assert test.value == pytest.approx(mutual_information(table, estimator), abs=1e-12)
        assert len(test.null) == 9
    packed = np.stack([np.zeros_like(states), states], axis=1).astype(np.uint8)
    names = np.array(["zero", "one", "two"])[labels]
    again = permutation_test(packed, names, 5, instances="equal", permutations=9)
    first = permutation_test(states, labels, 5, instances="equal", permutations=9)
    assert again.value == pytest.approx(first.value, abs=1e-12)
    assert "p-value" in repr(again)


def test_two_labels_of_equal_size_are_a_jensen_shannon_divergence():
    states = np.array([0, 1, 2, 2, 3, 3, 0, 3])
    test = permutation_test(states, [0, 0, 0, 0, 1, 1, 1, 1], 1, permutations=5)
    assert test.value == pytest.approx(
        js_divergence(np.bincount(states[:4], minlength=4), np.bincount(states[4:])), abs=1e-12
    )


def test_labels_that_tell_nothing_are_rarely_significant():
    """Permuted rows would find most of these significant: rows of an instance are alike."""
    rng = np.random.default_rng(6)
    p_values = [
        permutation_test(
            dependent_rows(rng, 40, 10),
            rng.integers(0, 2, 40),
            rng,
            instances="equal",
            permutations=39,
        ).p_value
        for _ in range(60)
    ]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.15
    assert 0.3 < np.mean(p_values) < 0.7


def test_labels_that_tell_something_are_significant():
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 2, 60)
    states = dependent_rows(rng, 60, 5) + np.repeat(labels, 5) * 500
    test = permutation_test(states, labels, rng, instances="equal", permutations=99)
    assert test.p_value == 0.01


def test_equal_values_count_as_reached():
    test = permutation_test([1, 2, 3], ["a", "b", "c"], 0, permutations=9)
    assert test.p_value == 1
    assert test.null == pytest.approx(test.value)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"states": [1, 2, 3]}, ValueError, "which of the 3 rows belong to which of the 2 labels"),
        ({"states": []}, TypeError, "states"),
        ({"states": np.empty(0, np.int64)}, ValueError, "0 rows"),
        ({"states": [0.5, 1.0]}, TypeError, "states"),
        ({"labels": [0.5, float("nan")]}, TypeError, "labels"),
        ({"labels": [[1, 2]]}, ValueError, "labels must be 1-D"),
        ({"labels": np.empty(0, np.int64)}, ValueError, "0 labels"),
        ({"rng": None}, TypeError, "rng"),
        ({"rng": -1}, TypeError, "rng"),
        ({"permutations": 0}, ValueError, "permutations"),
        ({"permutations": 10**7}, ValueError, "permutations must be at most 1,000,000"),
        ({"progress": 3}, TypeError, "progress must be callable"),
    ],
)
def test_invalid_arguments(change, error, words):
    with pytest.raises(error, match=words):
        permutation_test(**({"states": [1, 2], "labels": [1, 2], "rng": 0} | change))


@settings(max_examples=20)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 9))
def test_p_values_are_probabilities(states, seed):
    test = permutation_test(states, [state % 2 for state in states], seed, permutations=3)
    assert 0.25 <= test.p_value <= 1


def test_progress():
    seen = []
    test = permutation_test([1, 2], [0, 1], 0, permutations=3, progress=lambda *n: seen.append(n))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert test.null.tolist() == permutation_test([1, 2], [0, 1], 0, permutations=3).null.tolist()


def test_no_labels():
    with pytest.raises(ValueError, match="by_label is empty; at least one label is needed"):
        mutual_information({})
