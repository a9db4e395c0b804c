"""Divergences of two histograms, and unseen states: reference values, laws and edges."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorstate_gpu as ts
from tensorstate_gpu import StateCounts, count_states
from tensorstate_gpu.information import (
    coverage,
    cross_entropy,
    entropy,
    js_divergence,
    kl_divergence,
    total_variation,
    unseen_share,
)
from tensorstate_gpu.information.counts_of_counts import CountsOfCounts
from tensorstate_gpu.information.unseen_states import _probability_of_at_least
from tests.information.reference_values import TABLES

MEASURES = [kl_divergence, js_divergence, cross_entropy, total_variation, unseen_share]
pairs = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9) | st.integers(0, 2**62)), min_size=1, max_size=12
).filter(lambda pairs: all(map(any, zip(*pairs, strict=True))))


@pytest.mark.parametrize("name", [name for name in TABLES if "divergence" in TABLES[name]])
def test_reference_values(name):
    first, second = TABLES[name]["labels_by_states"]
    values = {
        "kl_01": kl_divergence(first, second),
        "kl_10": kl_divergence(second, first),
        "js": js_divergence(first, second),
        "cross_entropy_01": cross_entropy(first, second),
        "total_variation": total_variation(first, second),
        "share_of_1_unseen_in_0": unseen_share(second, first).value,
    }
    for measure, expected in TABLES[name]["divergence"].items():
        assert values[measure] == pytest.approx(float(expected), abs=1e-12), measure


@given(pairs)
def test_laws(pairs):
    first, second = map(list, zip(*pairs, strict=True))
    with np.errstate(all="raise"):
        divergence, crossed = kl_divergence(first, second), cross_entropy(first, second)
        assert 0 <= js_divergence(first, second) <= total_variation(first, second) + 1e-12 <= 2
        assert js_divergence(first, second) == pytest.approx(js_divergence(second, first))
        assert 0 <= float(unseen_share(first, second)) <= 1
        assert 0 <= unseen_share(second, first).p_value <= 1
    assert divergence >= 0
    assert crossed == pytest.approx(entropy(first) + divergence, abs=1e-9)
    smoothed = kl_divergence(first, second, smoothing=0.5)
    assert 0 <= smoothed < math.inf
    assert kl_divergence(first, first) == 0


@settings(max_examples=20)
@given(st.lists(st.integers(0, 40), min_size=1), st.lists(st.integers(0, 40), min_size=1))
def test_histograms_are_aligned_by_their_states(first, second):
    one, other = (
        count_states(np.array([[3, 0, state] for state in states], np.uint8), 22)
        for states in (first, second)
    )
    expected = np.bincount(first, minlength=41), np.bincount(second, minlength=41)
    occurs = expected[0] + expected[1] > 0
    for found, counts in zip(one.aligned_counts(other), expected, strict=True):
        assert found.tolist() == counts[occurs].tolist()
    for measure in MEASURES:
        assert measure(one, other) == measure(*(counts[occurs] for counts in expected))


def test_probabilities_of_any_range():
    with np.errstate(all="raise"):
        assert kl_divergence([1e300, 1e-300], [1e300, 1e-300]) == 0
        assert kl_divergence([1e300, 1.0], [1e300, 1e-300]) < 1e-290
        assert kl_divergence([1.0, 1.0], [1e300, 1e-300]) == pytest.approx(300 * math.log2(10) - 1)
        assert cross_entropy([0.5, 0.25, 0.25], [0.25, 0.25, 0.5]) == 1.75
        assert js_divergence([1e-320, 0], [0, 1e-320]) == 1


# ---- unseen states ------------------------------------------------------------------------------


def test_the_expected_share_is_what_the_coverage_lacks():
    rng = np.random.default_rng(0)
    reference, new = rng.geometric(0.1, 2000), rng.geometric(0.1, 500)
    counts = [np.bincount(rows, minlength=200) for rows in (new, reference)]
    share = unseen_share(*counts)
    assert share.expected == 1 - coverage(counts[1])
    assert share.value == np.isin(new, reference, invert=True).mean()


@pytest.mark.parametrize(("new", "known"), [(100, 1000), (400, 400), (1, 99)])
def test_p_values_are_those_of_random_divisions(new, known):
    rng = np.random.default_rng(1)
    rows = np.minimum(rng.geometric(0.03, new + known), 150)
    both = np.bincount(rows, minlength=151)
    unseen = []
    for _ in range(4000):
        part = np.bincount(rng.permutation(rows)[:new], minlength=151)
        unseen.append(int(part[part == both].sum()))
    sample = CountsOfCounts.of(both, "both", needed_by="this")
    for value in {0, 1, 3, *np.quantile(unseen, [0.5, 0.9, 0.99]).astype(int).tolist()}:
        simulated = np.mean(np.array(unseen) >= value)
        found = _probability_of_at_least(value, sample, new)
        assert found == pytest.approx(simulated, rel=0.2, abs=0.02), value


def test_sums_and_normal_distributions_agree(monkeypatch):
    both = CountsOfCounts.of([1] * 1000 + [2] * 300 + [5] * 40, "both", needed_by="this")
    summed = [_probability_of_at_least(value, both, 900) for value in (650, 690, 720, 1000)]
    assert summed == sorted(summed, reverse=True)
    monkeypatch.setattr("tensorstate_gpu.information.unseen_states._SUMMED", 0)
    normal = [_probability_of_at_least(value, both, 900) for value in (650, 690, 720, 1000)]
    assert normal == pytest.approx(summed, abs=0.01)


def test_p_values_of_extremes():
    assert unseen_share([5, 0], [7, 3]).p_value == 1
    assert unseen_share([0, 10**6], [10**6, 0]).p_value == 0
    assert unseen_share([0, 1], [99, 0]).p_value == pytest.approx(0.01)
    assert unseen_share([2**62, 1, 0], [1, 0, 2**61]).p_value > 0.3
    assert unseen_share([2**61, 2**61], [1, 0]).p_value > 0.3
    assert unseen_share([2**61, 2**61, 2], [1, 0, 0]).p_value > 0.3
    assert unseen_share([2**61, 2], [1, 0]).p_value == 1


# ---- invalid arguments --------------------------------------------------------------------------


@pytest.mark.parametrize("measure", MEASURES)
def test_invalid_pairs(measure):
    counts = StateCounts(np.array([[1]], np.uint8), np.array([2]), neurons=3)
    wider = StateCounts(np.array([[1]], np.uint8), np.array([2]), neurons=4)
    one, other = ("new", "reference") if measure is unseen_share else ("first", "second")
    for pair, error, words in [
        (([1, 2], [1, 2, 3]), ValueError, f"{one} and {other} must be aligned, got 2 and 3 states"),
        (([1, 2], [0, 0]), ValueError, f"{other} holds only zeros"),
        (([], []), ValueError, f"{one} is empty"),
        ((counts, wider), ValueError, f"{one} has 3 neurons, {other} has 4: states of different"),
        ((counts, StateCounts.empty(3)), ValueError, f"{other} "),
        ((counts, [2]), TypeError, f"{one} and {other} must both be .* got StateCounts and list"),
    ]:
        with pytest.raises(error, match=words):
            measure(*pair)
    with pytest.raises(TypeError, match="StateCounts"):
        counts.aligned_counts([1])


@pytest.mark.parametrize("measure", MEASURES)
def test_what_makes_a_histogram_in_memory_of_others_is_said(measure, tmp_path):
    rows = np.arange(9, dtype=np.uint8)[:, None]
    counts, stored = ts.count_states(rows, 4), ts.count_states(rows, 4, to=tmp_path / "rows.zarr")
    groups = ts.GroupedCounts([counts, counts], [9, 9])
    one, other = ("new", "reference") if measure is unseen_share else ("first", "second")
    for pair, words in [
        ((stored, counts), f"{one} is a StoredCounts, but states are aligned in memory: pass the"),
        ((counts, stored), f"{other} is a StoredCounts, but .* StateCounts that its load"),
        ((groups, groups), rf"{one} is a GroupedCounts: pass its together\(\)"),
    ]:
        with pytest.raises(TypeError, match=words):
            measure(*pair)
    assert measure(counts, stored.load()) == measure(counts, counts)
    for of_one in (ts.entropy, ts.information.coverage):
        with pytest.raises(TypeError, match=r"counts is a GroupedCounts: pass its together\(\)"):
            of_one(groups)


def test_other_invalid_arguments():
    with pytest.raises(ValueError, match="smoothing"):
        kl_divergence([1], [1], smoothing=-1)
    with pytest.raises(ValueError, match="integer counts"):
        unseen_share([0.5, 0.5], [1, 1])
    with pytest.raises(ValueError, match="integer counts"):
        unseen_share([1, 1], [0.5, 0.5])
