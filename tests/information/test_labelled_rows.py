"""Which rows are of which instance: capture points know, arrays have to be told."""

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu.information import class_divergences, js_divergence, permutation_test
from tensorstate_gpu.store.save import save_points

TESTS = [permutation_test, class_divergences]
SIZES = [0, 1, 2, 3, 4, 4, 3, 2, 1, 0] * 2  # 40 rows of 20 inputs: 2 each would fit, too
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1, 0, 1] * 2)
OWNERS = np.repeat(np.arange(20), SIZES)
STATES = (7 * LABELS[OWNERS] + np.arange(40) % 2).astype(np.uint8)[:, None]  # each tells its label


def values(found):
    """The value, or the matrix of values, the null and the p-values."""
    value = found.value if hasattr(found, "value") else found.divergence
    return value, found.null, found.p_value


@pytest.fixture
def point():
    point = ts.CapturePoint("layer")
    point.declare(neurons=8)
    for rows in np.split(STATES, np.cumsum(SIZES)[:-1]):
        point.append(rows, instances=1)
    return point


@pytest.mark.parametrize("test", TESTS)
def test_a_capture_point_knows_its_instances(test, point, tmp_path):
    found = values(test(point, LABELS, 0, permutations=19))
    save_points([point], tmp_path / "run.zarr")
    stored = ts.Store(tmp_path / "run.zarr")["layer"]
    shuffled = np.random.default_rng(1).permutation(40)
    for again in (
        test(stored, LABELS, 0, permutations=19),
        test(STATES, LABELS, 0, permutations=19, instances=OWNERS),
        test(STATES[shuffled], LABELS, 0, permutations=19, instances=OWNERS[shuffled]),
    ):
        for one, other in zip(found, values(again), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-12)
    assert np.max(found[0]) > 0.9  # a state tells its label, and one label has more rows
    assert np.min(found[2]) == 0.05


def test_divergences_of_instances_of_other_sizes(point):
    """Those that single histograms have; the null is of whole instances."""
    states = np.arange(40) % 5
    found = class_divergences(states, LABELS, 0, instances=OWNERS, permutations=9)
    one, other = (np.bincount(states[LABELS[OWNERS] == label], minlength=5) for label in (0, 1))
    assert found.divergence[0, 1] == pytest.approx(js_divergence(one, other), abs=1e-12)


@pytest.mark.parametrize("test", TESTS)
def test_equal_parts_must_be_asked_for(test):
    states = np.arange(40) % 3
    with pytest.raises(ValueError, match="which of the 40 rows belong to which of the 20 labels"):
        test(states, LABELS, 0)
    found = test(states, LABELS, 0, permutations=9, instances="equal")
    told = test(states, LABELS, 0, permutations=9, instances=np.arange(40) // 2)
    for one, other in zip(values(found), values(told), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize(
    ("instances", "error", "words"),
    [
        ("even", TypeError, 'instances must be "equal" or integers'),
        ([0, 1], TypeError, r"of shape \(3,\), one for each row, got int64 of shape \(2,\)"),
        ([0.0, 1.0, 1.0], TypeError, "got float64"),
        ([0, 1, 2], ValueError, "instances must be from 0 to 1, .* got 0 to 2"),
        ([0, -1, 1], ValueError, "got -1 to 1"),
        (np.ma.array([0, 1, 1], mask=[0, 0, 1]), TypeError, "instances is a masked array"),
        ("equal", ValueError, "3 rows cannot be divided among 2 instances"),
    ],
)
def test_invalid_instances(test, instances, error, words):
    with pytest.raises(error, match=words):
        test([1, 2, 3], [0, 1], 0, instances=instances)


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize(
    "labels",
    [
        np.array([label == 1 for label in LABELS]),
        np.array(["cat", "owl"], object)[LABELS],  # as pandas holds strings
        np.array(["cat", "owl"], np.dtypes.StringDType())[LABELS],
        torch.from_numpy(LABELS),
        [np.int8(label) for label in LABELS],
    ],
    ids=["bools", "objects", "strings", "tensor", "list"],
)
def test_labels_of_any_library_are_those_of_captures(test, labels, point):
    expected = values(test(point, LABELS, 0, permutations=9))
    for one, other in zip(values(test(point, labels, 0, permutations=9)), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert sum(counts.total for counts in point.counts_by(labels).values()) == 40


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        (["1", 1, "2"], TypeError, "labels must be all integers or all strings, got int too"),
        (["a", "a\0", "b"], ValueError, "labels must not end with a zero character"),
        (np.array(["a", None, "b"], object), TypeError, "all strings, got NoneType too"),
        ([0.5, 1.5, 0.5], TypeError, "labels must be integers or strings, got float64"),
    ],
    ids=["mixed", "zero", "missing", "floats"],
)
def test_labels_that_would_become_others_are_refused(test, labels, error, words):
    with pytest.raises(error, match=words):
        test([1, 2, 3], labels, 0)


@pytest.mark.parametrize("test", TESTS)
def test_what_a_capture_point_refuses(test, point):
    with pytest.raises(ValueError, match="one for each of the 20 instances, got 40"):
        test(point, LABELS[OWNERS], 0)
    with pytest.raises(TypeError, match="states knows the instances of its rows"):
        test(point, LABELS, 0, instances=OWNERS)
    unknown = ts.CapturePoint("pooled")
    unknown.record(STATES, 8, 1, ((20, -40),))
    with pytest.raises(ts.errors.InputsUnknown, match="pooled: 40 of 40 states belong to no known"):
        test(unknown, LABELS, 0)
    counted = ts.CapturePoint("counted", keep="counts")
    counted.declare(neurons=8)
    counted.append(STATES, instances=20)
    with pytest.raises(ts.errors.RowsNotKept):
        test(counted, LABELS, 0)


def clips(rng, units):
    """Twenty clips of two labels, with one to nine frames, all frames of one in its own state."""
    frames = rng.integers(1, 10, 20)
    frames[0] = 5  # so that it may have two labels
    of = np.repeat(np.arange(20), frames)
    point = ts.CapturePoint("clips")
    point.declare(neurons=8)
    states = rng.integers(0, 250, 20).astype(np.uint8)[of, None]
    point.append(states, instances=len(of), units=units[of])
    return point, states, of


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("units", [np.arange(20), np.arange(20).astype(str)], ids=["int", "str"])
def test_all_inputs_of_a_unit_keep_their_label_together(test, units, tmp_path):
    """Each clip seems to tell its label; permuted by frame, all samples look significant."""
    seen = []
    for seed in range(20):
        point, states, of = clips(np.random.default_rng(seed), units)
        labels = of % 2
        found = values(test(point, labels, seed, permutations=19))
        of_units = values(test(states, np.arange(20) % 2, seed, instances=of, permutations=19))
        for one, other in zip(found, of_units, strict=True):
            np.testing.assert_array_equal(one, other)
        seen.append(np.min(found[2]) <= 0.05)
    assert np.mean(seen) <= 0.2
    save_points([point], tmp_path / "run.zarr")
    stored = ts.Store(tmp_path / "run.zarr")["clips"]
    for one, other in zip(values(test(stored, labels, seed, permutations=19)), found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("test", TESTS)
def test_a_unit_of_several_labels_is_refused(test):
    point, _, of = clips(np.random.default_rng(1), np.arange(20) + 7)
    with pytest.raises(ValueError, match="inputs of unit 7 have different labels: labels are"):
        test(point, np.arange(len(of)) % 2, 0)
    point.append(np.zeros((1, 1), np.uint8), instances=1)
    with pytest.raises(ts.errors.LabelsMissing, match=r"clips: 1 of .* captured without units"):
        test(point, np.arange(len(of) + 1) % 2, 0)


@pytest.mark.parametrize("test", TESTS)
def test_units_of_two_kinds(test):
    rng = np.random.default_rng(2)
    point, both = ts.CapturePoint("both"), rng.integers(0, 9, (2, 10)).astype(np.uint8)
    point.declare(neurons=8)
    for states, units in zip(both, (np.arange(10) // 2, np.array(list("aabbccddee"))), strict=True):
        point.append(states[:, None], instances=10, units=units)
    labels = np.arange(20) // 2 % 2
    of_units = test(both.ravel(), np.arange(10) % 2, 3, instances=np.arange(20) // 2)
    for one, other in zip(values(test(point, labels, 3)), values(of_units), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_class_without_rows():
    """Its label can be told by no state."""
    with pytest.raises(ValueError, match="no instance of class 'c' has rows"):
        class_divergences([1, 2], ["a", "b", "c"], 0, instances=[0, 1])
    with_it = permutation_test([1, 2], ["a", "b", "c"], 0, instances=[0, 1], permutations=9)
    without = permutation_test([1, 2], ["a", "b"], 0, permutations=9)
    assert values(with_it)[0] == values(without)[0] == 1


def test_permuted_labels_stay_with_instances():
    """Inputs of many equal rows: p-values are as if labels told nothing, which they do not."""
    small = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        owners = np.repeat(np.arange(40), rng.integers(0, 20, 40))
        states = rng.integers(0, 20, 40)[owners]
        found = permutation_test(
            states, rng.integers(0, 2, 40), rng, instances=owners, permutations=19
        )
        small.append(found.p_value <= 0.05)
    assert np.mean(small) <= 0.15
