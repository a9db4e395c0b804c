"""Divergences of classes against permuted labels: what is known exactly, and what is refused."""

import numpy as np
import pytest

from tensorstate_gpu import information
from tensorstate_gpu.information import divergences_of_classes
from tests.support.python_calls import calls_of


def test_each_pair_is_that_of_two_histograms():
    rng = np.random.default_rng(0)
    labels = np.array(["b", "a", "c", "c"]).repeat(25)
    states = rng.integers(0, 6, (100, 3)) + 2 * (labels == "c")[:, None]
    found = information.class_divergences(states.ravel(), labels, 1, instances="equal")
    assert found.labels.tolist() == ["a", "b", "c"]
    counts = [np.bincount(states[labels == name].ravel(), minlength=9) for name in "abc"]
    for one in range(3):
        for other in range(3):
            expected = information.js_divergence(counts[one], counts[other]) if one != other else 0
            assert found.divergence[one, other] == pytest.approx(expected, abs=1e-12)
    for matrix in (found.divergence, found.null, found.p_value):
        np.testing.assert_array_equal(matrix, matrix.T)
    assert found.p_value[0, 2] == found.p_value[1, 2] == 1 / 20
    assert found.divergence[0, 2] > 3 * found.null[0, 2] > 0


def test_rows_of_an_instance_stay_together():
    """An instance has twenty equal rows: permuted rows would find what is not there."""
    rng = np.random.default_rng(2)
    small = []
    for seed in range(60):
        states = rng.integers(0, 20, 40).repeat(20)
        found = information.class_divergences(
            states, np.repeat([0, 1], 20), seed, instances="equal"
        )
        small.append(found.p_value[0, 1] <= 0.05)
    assert np.mean(small) <= 0.15  # 5 % are expected; of permuted rows, all


def test_packed_states_and_classes_of_other_sizes():
    packed = np.array([[1], [1], [1], [2]], np.uint8)
    found = information.class_divergences(packed, [0, 0, 0, 1], 0, permutations=9)
    assert found.divergence[0, 1] == 1
    assert found.null.shape == found.p_value.shape == (2, 2)


@pytest.mark.parametrize(
    ("states", "labels", "options", "message"),
    [
        ([1, 2], [0, 0], {}, "labels must be of two or more classes, got 1"),
        ([1, 2, 3], [0, 1], {}, "which of the 3 rows belong to which of the 2 labels"),
        ([1, 2], [0, 1], {"permutations": 0}, "permutations"),
        ([1, 2], [0, 1], {"permutations": 10**30}, "permutations must be at most 1,000,000"),
    ],
)
def test_what_is_refused(states, labels, options, message):
    with pytest.raises(ValueError, match=message):
        information.class_divergences(states, labels, 0, **options)


def test_progress():
    seen = []
    found = information.class_divergences(
        np.arange(6), [0, 0, 1, 1, 2, 2], 0, permutations=4, progress=lambda *n: seen.append(n)
    )
    assert seen == [(done, 12) for done in range(1, 13)]  # of three pairs of classes
    same = information.class_divergences(np.arange(6), [0, 0, 1, 1, 2, 2], 0, permutations=4)
    np.testing.assert_array_equal(found.p_value, same.p_value)
    with pytest.raises(TypeError, match="progress must be callable"):
        information.class_divergences([1, 2], [0, 1], 0, progress=3)


def test_permutations_are_compared_together(monkeypatch):
    """One by one, the small layers of a deep network took minutes: 2,000 of ten labels, two."""
    labels, rng = np.arange(100) % 10, np.random.default_rng(0)
    states = rng.integers(0, 50, 100)

    def found(permutations=19):
        return information.class_divergences(states, labels, 0, permutations=permutations)

    found(1)
    few, many = (len(calls_of(lambda each=each: found(each))) for each in (1, 100))
    assert many - few < 45 * 99 * 10  # of as many pairs of classes, and permutations
    whole = found()
    monkeypatch.setattr(divergences_of_classes, "_CELLS", 40)  # of some 20 states each
    for name in ("divergence", "null", "p_value"):
        np.testing.assert_array_equal(getattr(found(), name), getattr(whole, name))
