"""Estimates: their values, errors and intervals; what they say where they cannot know."""

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.information import (
    Estimate,
    entropy,
    estimate,
    estimate_difference,
    rarefaction,
)
from tensorstate_gpu.information.bounds import NO_COINCIDENCE
from tensorstate_gpu.information.replicates import student_quantile

SHARES = np.array([0.4, 0.3, 0.2, 0.05, 0.03, 0.02])


def drawn(seed=0, rows=100, groups=32, shares=SHARES):
    return np.random.default_rng(seed).multinomial(rows, shares, size=groups)


def test_values():
    groups = drawn()
    total = groups.sum(axis=0)
    found = estimate(groups, neurons=3)
    assert found.value == float(found) == entropy(total, estimator="chao-wang-jost")
    assert found.plugin == pytest.approx(entropy(total), abs=1e-12)
    assert found.slope == pytest.approx(entropy(total) - rarefaction(total, 1600), abs=1e-12)
    assert (found.rows, found.instances, found.coverage) == (3200, 3200, 1.0)
    assert (found.quality, found.is_cut) == ("good", False)
    assert found.confidence_interval == (found.lower, found.upper)
    assert 0.8 < found.design_effect < 1.5  # the rows are independent


def test_the_standard_error_is_that_of_the_delete_a_group_jackknife():
    groups = drawn()
    found, total = estimate(groups), groups.sum(axis=0)
    without = np.array([entropy(total - group, estimator="chao-wang-jost") for group in groups])
    expected = math.sqrt(31 / 32 * ((without - without.mean()) ** 2).sum())
    expected = math.hypot(expected, found.replicates.noise)
    assert found.standard_error == pytest.approx(expected, rel=1e-9)
    exact = math.sqrt(float((SHARES * np.log2(SHARES) ** 2).sum()) - entropy(SHARES) ** 2)
    assert found.standard_error == pytest.approx(exact / math.sqrt(3200), rel=0.3)


def test_groups_count_by_their_rows():
    """Half of all rows in one group say as much as three or four equal groups."""
    groups = drawn(groups=16)
    groups[0] *= 15
    found = estimate(groups)
    assert 3 < found.replicates.groups < 4
    assert found.standard_error is None
    assert (found.quality, found.confidence_interval) == ("bounds only", None)


def test_equally_likely_states_have_an_error_too():
    """The linear part is 0; what is left has the variance of chi squared / (2 N)."""
    found = [estimate(drawn(seed, 30, shares=[0.25] * 4), neurons=2) for seed in range(200)]
    values = np.array([each.value for each in found])
    assert np.mean([each.standard_error for each in found]) > values.std()
    assert all(each.lower <= 2 <= each.upper for each in found)
    noise = math.sqrt(2 * 3) / (2 * 960 * math.log(2))
    assert np.mean([each.replicates.noise for each in found]) == pytest.approx(noise, rel=0.1)


def test_rows_that_depend_on_each_other_widen_the_interval():
    instances = np.random.default_rng(1).choice(len(SHARES), 320, p=SHARES)
    states = np.eye(len(SHARES), dtype=np.int64)[instances]
    one_row, ten_rows = (estimate(states.reshape(32, 10, -1).sum(axis=1) * n) for n in (1, 10))
    assert ten_rows.standard_error == pytest.approx(one_row.standard_error, rel=0.1)
    assert ten_rows.design_effect == pytest.approx(10 * one_row.design_effect, rel=0.1)


def test_the_noise_depends_on_instances_not_on_rows():
    groups = drawn()
    noise = estimate(groups).replicates.noise
    assert estimate(10 * groups).replicates.noise == pytest.approx(noise)


def test_the_design_effect_is_relative_to_independent_rows():
    shares = np.array([0.9, *[0.01] * 10])  # a row says 4.5 bits**2
    groups = drawn(shares=shares)
    total = groups.sum(axis=0)
    without = np.array([entropy(total - group) for group in groups])
    jackknife = 31 / 32 * ((without - without.mean()) ** 2).sum()
    p = total / total.sum()
    of_a_row = (p * np.log2(p) ** 2).sum() - entropy(total) ** 2
    assert abs(of_a_row - 1) > 0.5
    assert estimate(groups).design_effect == pytest.approx(jackknife * 3200 / of_a_row)


# ---- where little is known ----------------------------------------------------------------------


def test_all_rows_different():
    """The floor: 2 log2 N - 4.49, less what pairs within a group could have told."""
    found = estimate(np.eye(1000, dtype=np.int64).reshape(20, 50, 1000).sum(axis=1), neurons=100)
    assert (found.coverage, found.quality) == (0, "bounds only")
    assert found.confidence_interval is None
    expected = 2 * math.log2(1000) + math.log2(1 - 1 / 20) - 2 * math.log2(4.7439)
    assert found.lower == pytest.approx(expected)
    assert (found.upper, found.how) == (100, ("no coincidences", "neurons"))
    assert found.slope == pytest.approx(1)
    json.dumps(found.as_dict(), allow_nan=False)


def test_the_floor_is_between_nothing_and_the_neurons():
    assert estimate(np.eye(4, dtype=np.int64)).lower == 0
    singles = np.eye(1000, dtype=np.int64).reshape(20, 50, 1000).sum(axis=1)
    found = estimate(singles, neurons=10)
    assert (found.lower, found.upper) == (10, 10)


def test_a_bound_that_is_not_known_is_none_in_json():
    unknown = estimate([[1, 2]])  # of arrays without neurons nothing bounds the entropy
    assert unknown.upper == math.inf
    as_dict = json.loads(json.dumps(unknown.as_dict(), allow_nan=False))
    assert (as_dict["lower"], as_dict["upper"]) == (0, None)
    difference = estimate_difference(unknown, unknown).as_dict()
    assert (difference["lower"], difference["upper"]) == (None, None)


def test_an_interval_is_within_the_bounds():
    groups = np.ones((60, 2), np.int64)
    groups[1:, 1] = 0  # one instance in 61 has the other state
    found = estimate(groups, neurons=1)
    assert (found.lower, found.how[0]) == (0, "interval")
    found = estimate(np.full((20, 2), 5), neurons=1)
    assert (found.upper, found.how[1]) == (1, "neurons")


def test_one_row():
    found = estimate([[1], [0]])
    assert (found.value, found.plugin_of_half, found.rows) == (0, 0, 1)


def test_the_constant_of_the_floor():
    """A state that is so probable occurs twice in 95 of 100 samples of N instances."""
    instances = 10**6
    chance = 2 ** (NO_COINCIDENCE / 2) / instances
    none, once = (1 - chance) ** instances, instances * chance * (1 - chance) ** (instances - 1)
    assert none + once == pytest.approx(0.05, abs=1e-5)


def test_one_state():
    """Another state may have a share of up to 3 / N: the rule of three."""
    found = estimate(np.full((32, 1), 9), neurons=4)
    assert (found.value, found.lower) == (0, 0)
    assert found.upper == pytest.approx(entropy([3, 288 - 3]))
    assert (found.standard_error, found.quality, found.design_effect) == (0, "good", None)


@pytest.mark.parametrize("chance", [0.01, 0.05])
def test_a_state_that_few_samples_have(chance):
    """In 61 and 8 of 100 samples, no instance has it."""
    truth = entropy([chance, 1 - chance])
    rng, held = np.random.default_rng(4), 0
    for _ in range(100):
        groups = np.zeros((50, 2), np.int64)
        groups[np.arange(50), (rng.random(50) < chance).astype(int)] = 1
        found = estimate(groups, neurons=1)
        held += found.lower <= truth <= found.upper
    assert held >= 92


def test_arrays_do_not_know_how_many_rows_an_instance_has():
    """Of 40 instances, whose 25 rows are alike, few have one of the states."""
    truth = entropy([0.05, 0.95])
    rng, held, held_by_rows = np.random.default_rng(5), 0, 0
    for _ in range(100):
        groups = np.zeros((40, 2), np.int64)
        groups[np.arange(40), (rng.random(40) < 0.05).astype(int)] = 25
        found = estimate(groups, neurons=1, instances=np.ones(40, int))
        assert (found.instances, found.rows) == (40, 1000)
        held += found.lower <= truth <= found.upper
        by_rows = estimate(groups, neurons=1)
        held_by_rows += by_rows.lower <= truth <= by_rows.upper
    assert held >= 92 > held_by_rows


@pytest.mark.parametrize(
    ("instances", "error", "words"),
    [
        ([1, 1], TypeError, r"instances must be integers of shape \(3,\), .* got int64 of shape"),
        ([1.0, 1, 1], TypeError, "got float64"),
        ([1, 1, -1], ValueError, "instances must not be negative"),
        ([1, 0, 1], ValueError, "nor 0 for a group with rows"),
    ],
)
def test_invalid_instances(instances, error, words):
    with pytest.raises(error, match=words):
        estimate([[1, 2], [2, 1], [0, 0]], instances=instances)
    assert estimate([[1, 2], [2, 1], [0, 0]], instances=[1, 2, 0]).instances == 3


def test_grouped_counts_know_their_instances():
    counts = ts.count_states(np.array([[1], [2]], np.uint8), 2)
    with pytest.raises(TypeError, match="instances is for arrays: GroupedCounts knows them"):
        estimate(ts.GroupedCounts([counts, counts], [1, 1]), instances=[1, 1])


@pytest.mark.parametrize("groups", [[[5, 3]], [[5, 3], [0, 0]], [[5, 3], [1, 2]]])
def test_too_few_groups(groups):
    found = estimate(groups, neurons=1)
    assert (found.standard_error, found.quality, found.lower) == (None, "bounds only", 0)
    assert found.upper == 1
    value = f"{found.value:.4g} bits"
    value += " (cut to what the neurons allow)" if found.is_cut else ""
    assert repr(found).startswith(f"Estimate({value}, bounds 0 to 1, bounds only, coverage ")


def test_an_estimate_says_its_unit_and_is_formatted_as_its_value():
    bits, ratio = (estimate(drawn(), measure, neurons=3) for measure in ("entropy", "efficiency"))
    assert re.match(r"Estimate\(\d\.\d+ \+- 0\.0\d+ bits, 95 % interval ", repr(bits))
    assert re.match(r"Estimate\(0\.\d+ \+- 0\.0\d+, 95 % interval ", repr(ratio))
    assert re.search(r"<td>\d\.\d+ bits</td>", bits._repr_html_())
    assert (f"{bits:.2f}", f"{bits}") == (f"{bits.value:.2f}", str(bits))


def test_a_value_above_the_neurons_is_cut():
    groups = np.random.default_rng(3).multinomial(4, np.full(128, 1 / 128), size=32)
    above = estimate(groups)
    assert above.value > 7
    cut = estimate(groups, neurons=7)
    assert (cut.value, cut.is_cut, above.is_cut) == (7, True, False)
    assert cut.standard_error == above.standard_error  # the cut hides no error
    shown = estimate(groups, "efficiency", neurons=7)
    assert shown.is_cut
    assert re.match(r"Estimate\(1 \+- [\d.e-]+ \(cut to what the neurons allow\), ", repr(shown))
    assert "1 (cut to what the neurons allow)" in shown._repr_html_()
    assert "cut" not in repr(above) + above._repr_html_()


@pytest.mark.parametrize(
    ("groups", "error", "words"),
    [
        ([], TypeError, "groups must be GroupedCounts"),
        ([1, 2], TypeError, "groups must be GroupedCounts"),
        ([[0.5, 1.0]], TypeError, "groups must be GroupedCounts"),
        (np.ones((9, 2), np.uint8), TypeError, "got uint8, as packed states are: count them first"),
        (
            ts.StateCounts.empty(3),
            TypeError,
            r"StateCounts: bare counts do not .*: use estimate\(\) of a capture point",
        ),
        (ts.CapturePoint("layer"), TypeError, r"got CapturePoint: a layer has grouped\(\)"),
        ([[0, 0], [0, 0]], ValueError, "only zeros"),
        ([[1, -1], [2, 2]], ValueError, "not negative"),
        (np.empty((2, 0), np.int64), ValueError, "empty"),
        ([[2**62, 1], [2**62, 1]], OverflowError, "int64"),
        (np.ones((100_001, 2), int), ValueError, "at most 100,000, got 100,001, of 2 states"),
    ],
)
def test_invalid_groups(groups, error, words):
    with pytest.raises(error, match=words):
        estimate(groups)


def test_invalid_arguments():
    groups = drawn()
    with pytest.raises(ValueError, match=r"measure must be one of \('entropy', 'efficiency'\)"):
        estimate(groups, "aIQ")
    with pytest.raises(ValueError, match="the efficiency needs neurons"):
        estimate(groups, "efficiency")
    with pytest.raises(ValueError, match="6 states are more than 2 neurons"):
        estimate(groups, neurons=2)
    with pytest.raises(ValueError, match="neurons must be greater than 0"):
        estimate(groups, neurons=0)


def test_an_estimate_does_not_change_and_is_json():
    found = estimate(drawn(), neurons=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.value = 1.0
    assert found == estimate(drawn(), neurons=3)
    as_dict = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert as_dict["confidence_interval"] == [found.lower, found.upper]
    assert "replicates" not in as_dict
    assert isinstance(found, Estimate)


@pytest.mark.parametrize(("degrees", "quantile"), [(7, 2.3646), (15, 2.1314), (31, 2.0395)])
def test_quantiles_of_t(degrees, quantile):
    assert student_quantile(degrees) == pytest.approx(quantile, abs=1e-3)


def test_the_page_says_of_each_number_what_error_it_has():
    page = (Path(__file__).parents[2] / "docs/statistics.md").read_text()
    table = page.split("### Which numbers have an error")[1].split("###")[0]
    of_classes = {"Estimate", "PermutationTest", "ClassDivergences", "UnseenShare"}
    of_classes |= {"TopStates", "EquivalentNeurons"}
    names = {*ts.information.__all__, *ts.neurons.__all__} - of_classes
    assert sorted(name for name in names if f"`{name}`" not in table) == []


@pytest.mark.parametrize("most", [2**62, 2**63 - 1])
def test_counts_up_to_what_int64_holds(most):
    """As of a millionth of the rows: twice the number of rows is more than int64 holds."""
    few = np.random.default_rng(0).multinomial(10**6, [0.5, 0.3, 0.2], size=32)
    many = few * (most // int(few.sum()))
    million = few * 10**6
    for made in (lambda counts: counts, grouped_counts):
        found, expected = estimate(made(many)), estimate(made(million))
        for name in ("value", "lower", "upper", "standard_error"):
            assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-6)


def grouped_counts(table):
    states = np.arange(table.shape[1], dtype=np.uint8)[:, None]
    return ts.GroupedCounts([ts.StateCounts(states, row, 4) for row in table], [10] * len(table))
