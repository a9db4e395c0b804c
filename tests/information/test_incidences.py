"""Intervals of entropy where the rows of an input are alike: states are counted by groups, too."""

import dataclasses
import math

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.information import estimate
from tensorstate_gpu.information.bounds import entropy_of_doubt
from tensorstate_gpu.information.counts_of_counts import CountsOfCounts
from tensorstate_gpu.information.estimators import unseen_terms, unseen_terms_of
from tensorstate_gpu.information.group_sums import GroupSums
from tensorstate_gpu.information.group_table import GroupTable, SampledInstances
from tensorstate_gpu.information.incidences import Incidences
from tensorstate_gpu.information.many_estimates import ManyEstimates

COMMON, OWN, GROUPS = 50, 60_000, 32


def truth(share):
    p = np.repeat([(1 - share) / COMMON, share / OWN], [COMMON, OWN])
    return -(p * np.log2(p)).sum()


def drawn(share, inputs, seed):
    """How often each state occurs in each group; of a share of the inputs, one of very many."""
    rng = np.random.default_rng(seed)
    is_rare = rng.random(inputs) < share
    numbers = np.where(
        is_rare, rng.integers(COMMON, COMMON + OWN, inputs), rng.integers(0, COMMON, inputs)
    )
    _, states = np.unique(numbers, return_inverse=True)
    groups = np.zeros((GROUPS, states.max() + 1), np.int64)
    np.add.at(groups, (np.arange(inputs) % GROUPS, states), 1)
    return groups


@pytest.mark.parametrize(
    ("share", "inputs"), [(0.02, 1000), (0.05, 1000), (0.05, 4000), (0.09, 4000)]
)
@pytest.mark.parametrize("rows", [1, 4, 20])
def test_a_few_percent_of_the_inputs_have_one_of_very_many_states(share, inputs, rows):
    held = []
    for seed in range(25):
        groups = drawn(share, inputs, seed)
        found = estimate(rows * groups, neurons=16, instances=groups.sum(axis=1))
        if found.confidence_interval is not None:
            held.append(found.lower <= truth(share) <= found.upper)
    assert len(held) >= 10
    assert np.mean(held) >= 0.92


def test_equal_rows_of_an_input_say_as_little_as_one():
    """The estimate takes them for more, but its interval reaches as far up."""
    for seed in range(5):
        groups = drawn(0.05, 2000, seed)
        sizes = groups.sum(axis=1)
        one = estimate(groups, neurons=16, instances=sizes)
        for rows in (2, 4, 100):
            more = estimate(rows * groups, neurons=16, instances=sizes)
            assert more.value < one.value - 0.1
            assert more.upper == pytest.approx(one.upper, abs=0.12)


def of_their_own(share, inputs, seed):
    """How often each state occurs in each group; of a share of the inputs, each has its own."""
    rng = np.random.default_rng(seed)
    is_rare = rng.random(inputs) < share
    numbers = np.where(is_rare, COMMON + np.arange(inputs), rng.integers(0, COMMON, inputs))
    _, states = np.unique(numbers, return_inverse=True)
    groups = np.zeros((GROUPS, states.max() + 1), np.int64)
    np.add.at(groups, (np.arange(inputs) % GROUPS, states), 1)
    return groups


@pytest.mark.parametrize(("share", "inputs"), [(0.02, 1000), (0.06, 1000), (0.02, 4000)])
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("neurons", [40, 300])
def test_states_that_only_the_neurons_limit(share, inputs, rows, neurons):
    """Of a few percent of the inputs, each has one of 2**neurons states. None of 200 held."""
    common = (1 - share) / COMMON
    due = -(1 - share) * math.log2(common) + share * (neurons - math.log2(share))
    held = []
    for seed in range(25):
        groups = of_their_own(share, inputs, seed)
        found = estimate(rows * groups, neurons=neurons, instances=groups.sum(axis=1))
        assert found.upper - found.value < 0.1 * neurons + 1  # a share of the rows is in doubt
        if found.confidence_interval is not None:
            held.append(found.lower <= due <= found.upper)
    assert len(held) >= 10
    assert np.mean(held) >= 0.92


@pytest.mark.parametrize(("alone", "pairs"), [(4, 0), (3, 0), (40, 1), (0, 0)])
def test_which_states_nothing_limits(alone, pairs):
    """Those of more than three inputs, if no two groups share a state."""
    groups = np.zeros((GROUPS, 1 + alone + pairs), np.int64)
    groups[:, 0] = 100
    groups[np.arange(alone) % GROUPS, 1 + np.arange(alone)] = 1
    groups[:2, 1 + alone :] = 1
    few, many = (estimate(groups, neurons=neurons) for neurons in (10, 1000))
    adds = alone > 3 and not pairs
    assert (many.upper - few.upper > 1) == adds
    assert (few.lower, few.value) == (many.lower, many.value)


def test_where_rows_are_inputs_nothing_is_added():
    """By groups there are more states of one, by chance: those of two inputs of a group."""
    assert reach(drawn(0.05, 2000, 1), 1) == pytest.approx(0)


def test_states_of_many_inputs_add_nothing():
    rng = np.random.default_rng(3)
    assert reach(rng.multinomial(20, np.full(40, 1 / 40), size=GROUPS), 50) == pytest.approx(0)


def reach(inputs, rows):
    """How much further up the interval reaches than by rows alone: inputs of so many equal rows.

    Neurons, which are not given, limit what rare states may add that no two groups have.
    """
    sums = GroupSums.of(GroupTable.of(rows * inputs))
    sampled = SampledInstances(tuple(inputs.sum(axis=1).tolist()))
    sums = dataclasses.replace(sums, instances=sampled)
    found = estimate(rows * inputs, instances=inputs.sum(axis=1))
    assert found.confidence_interval
    by_rows = max(0.0, found.value - found.plugin, -3 * found.replicates.bias)
    return found.bias[1] - by_rows - float(entropy_of_doubt(sums.cover))


def few_and_common(rng, groups=6):
    """Counts of which many are 0, so that states occur in one group, in two, and in more."""
    rare = rng.integers(1, 4, (groups, 60)) * (rng.random((groups, 60)) < 0.2)
    return np.concatenate([rng.integers(1, 9, (groups, 5)), rare], axis=1)


def of_rare(sample, present):
    """The numbers of rare states of counts (groups, states): by rows, and by groups."""
    total, in_groups = sample.sum(axis=0), present.sum(axis=0)
    counts = CountsOfCounts.of(total, "total", needed_by="this test")
    alone = total[in_groups == 1].sum()
    return (
        (counts.rows, counts.seen(1), counts.seen(2)),
        ((in_groups == 1).sum(), (in_groups == 2).sum(), alone),
    )


@pytest.mark.parametrize("seed", range(5))
def test_without_each_group_they_are_counted_anew(seed):
    groups = few_and_common(np.random.default_rng(seed))
    found = GroupSums.of(GroupTable.of(groups)).incidences()
    by_rows, by_groups = of_rare(groups, groups > 0)
    whole, without = found.by_groups()
    assert [int(part) for part in found.by_rows] == list(by_rows)
    assert [int(part) for part in whole] == list(by_groups)
    for group in range(len(groups)):
        rest = np.delete(groups, group, axis=0)
        by_rows, by_groups = of_rare(rest, rest > 0)
        assert [int(part[group]) for part in found.by_rows_without] == list(by_rows)
        assert [int(part[group]) for part in without] == list(by_groups)


def test_sums_of_parts_are_those_of_the_whole():
    groups = few_and_common(np.random.default_rng(1))
    whole = GroupSums.of(GroupTable.of(groups))
    parts = GroupSums.together([GroupSums.of(GroupTable.of(groups[:, at::3])) for at in range(3)])
    np.testing.assert_array_equal(parts.in_groups, whole.in_groups)
    np.testing.assert_array_equal(parts.rows_left, whole.rows_left)
    assert as_lists(parts.incidences()) == as_lists(whole.incidences())


def as_lists(found: Incidences):
    return [[part.tolist() for part in each] for each in (*found.by_groups(), found.by_rows)]


def test_many_samples_at_once_have_the_same_ends():
    samples = []
    for seed, rows in enumerate((1, 3, 4, 10)):
        groups = drawn(0.05, 500, seed)
        packed = np.arange(groups.shape[1], dtype="<u2")[:, None].view(np.uint8)
        parts = [ts.StateCounts(packed[row > 0], rows * row[row > 0], 16) for row in groups]
        samples.append(ts.GroupedCounts(parts, groups.sum(axis=1).tolist()))
    found = ManyEstimates.of(samples[0].many_with(samples[1:]))
    alone = [sample.estimate() for sample in samples]
    assert found.has_interval.all()
    np.testing.assert_allclose(found.upper, [one.upper for one in alone], rtol=1e-12)
    of_bias = [one.bias[1] for one in alone]
    assert min(of_bias[1:]) > of_bias[0] + 0.2  # by the incidences


def test_sums_for_the_unseen_together_are_those_of_each():
    rows = np.array([1, 2, 50, 4000, 1e6, 1e18])
    odds = np.array([0, 0.5, 1e3, 7.0, 1e12, 1e30])
    found = unseen_terms_of(rows, odds)
    alone = [unseen_terms(*each) if each[1] else 0 for each in zip(rows, odds, strict=True)]
    np.testing.assert_allclose(found, alone, rtol=1e-12)
