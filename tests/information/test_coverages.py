"""Coverage and rarefaction: reference values, edges and invalid arguments."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorstate_gpu.information import coverage, entropy, rarefaction
from tests.information.reference_values import SAMPLES, counts_of


@pytest.mark.parametrize("name", SAMPLES)
def test_reference_values(name):
    sample = SAMPLES[name]
    counts = counts_of(sample)
    for estimator, value in sample["coverage"].items():
        expected = 0 if sum(counts) == 1 else value
        assert coverage(counts, estimator) == pytest.approx(expected, abs=1e-12)
    for rows, value in sample["rarefaction"].items():
        assert rarefaction(counts, int(rows)) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("estimator", ["turing", "chao-jost"])
def test_edges_of_coverage(estimator):
    assert coverage([1], estimator) == 0
    assert coverage([2, 3], estimator) == 1
    assert 0 < coverage([2**63 - 1, 1], estimator) <= 1
    assert coverage([1] * 9, estimator) == {"turing": 0, "chao-jost": 1 - 64 / 66}[estimator]


@given(st.lists(st.integers(0, 5) | st.integers(0, 2**63 - 1), min_size=1).filter(any))
def test_coverage_is_a_share(counts):
    assert 0 <= coverage(counts) <= 1
    assert 0 <= coverage(counts, "chao-jost") <= 1


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.data())
def test_rarefaction_is_the_mean_over_all_ways_to_draw(counts, data):
    rows = data.draw(st.integers(1, sum(counts)))
    states = np.repeat(np.arange(len(counts)), counts)
    drawn = [entropy(np.bincount(ways)) for ways in itertools.combinations(states, rows)]
    assert rarefaction(counts, rows) == pytest.approx(np.mean(drawn), abs=1e-12)


def test_moments_and_distributions_agree(monkeypatch):
    counts = [10**6] * 3 + [10**5, 3 * 10**4, 500, 1]
    values = [rarefaction(counts, rows) for rows in (10**5, 10**6, 3 * 10**6)]
    monkeypatch.setattr("tensorstate_gpu.information.rarefactions._MANY", math.inf)
    exact = [rarefaction(counts, rows) for rows in (10**5, 10**6, 3 * 10**6)]
    assert values == pytest.approx(exact, abs=1e-11)
    assert rarefaction(counts, sum(counts)) == pytest.approx(entropy(counts), abs=1e-12)


def test_rarefaction_of_huge_counts():
    with np.errstate(all="raise"):
        assert rarefaction([2**63 - 1] * 4, 2**64) == pytest.approx(2)
        assert rarefaction([2**63 - 1, 1], 1) == 0
        assert rarefaction([2**62, 2**62, 1], 2) == pytest.approx(0.5)


@pytest.mark.parametrize(("rows", "error"), [(0, ValueError), (4, ValueError), (1.5, TypeError)])
def test_invalid_rows(rows, error):
    with pytest.raises(error, match="rows"):
        rarefaction([2, 1], rows)


def test_invalid_arguments():
    for measure in (coverage, lambda counts: rarefaction(counts, 1)):
        with pytest.raises(ValueError, match="integer counts"):
            measure([0.5, 0.5])
        with pytest.raises(ValueError, match="counts"):
            measure([])
    with pytest.raises(ValueError, match=r"\('turing', 'chao-jost'\)"):
        coverage([1, 2], "good")
