"""What inputs may show that the sample has none of: a share of 3 in as many as are independent."""

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.information import entropy
from tensorstate_gpu.information.bounds import unseen_entropy
from tensorstate_gpu.information.group_sums import GroupSums
from tensorstate_gpu.information.group_table import GroupTable, SampledInstances


@pytest.mark.parametrize("seed", range(6))
def test_few_states_are_added_up_as_many_are(seed, monkeypatch):
    """Without each group, and how often neurons fire; some groups have no rows, or all of them."""
    rng = np.random.default_rng(seed)
    table = rng.multinomial(rng.integers(1, 60), rng.dirichlet(np.full(12, 0.3)), size=8)
    table[rng.random(8) < 0.4] = 0
    table[3] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5000]
    states = rng.choice(2**11, 12, replace=False).astype("<u2")
    parts = []
    for row in table:
        rows = np.repeat(states, row)[:, None].view(np.uint8)
        parts.append(ts.count_states(rows, 11) if len(rows) else ts.StateCounts.empty(11))
    few = ts.GroupedCounts(parts, [7] * 8).group_sums()
    monkeypatch.setattr("tensorstate_gpu.information.group_sums._SMALL", 0)
    monkeypatch.setattr("tensorstate_gpu._states.tables_by_group._FEW", 0)
    many = ts.GroupedCounts(parts, [7] * 8).group_sums()
    np.testing.assert_array_equal(few.firing, many.firing)
    for one, other in zip(few.rests, many.rests, strict=True):
        assert one.counts.dtype == one.states.dtype == np.int64
        np.testing.assert_array_equal(one.counts, other.counts)
        np.testing.assert_array_equal(one.states, other.states)


def test_neurons_of_many_groups_are_measured_in_blocks(monkeypatch):
    counts = ts.count_states(np.random.default_rng(0).integers(0, 256, (90, 2), np.uint8), 16)
    parts = [counts, ts.StateCounts.empty(16), *[counts] * 18]
    upper = ts.GroupedCounts(parts, [9] * 20).estimate().upper
    monkeypatch.setattr("tensorstate_gpu.information.bounds._BLOCK", 40)
    assert ts.GroupedCounts(parts, [9] * 20).estimate().upper == upper


def test_what_a_state_that_was_not_seen_may_add():
    few = GroupSums.of(GroupTable.of([[2], [1]]))
    assert unseen_entropy(few.cover) == 1  # a share of at most one half
    rows = GroupSums.of(GroupTable.of([[6, 6], [6, 7]]))
    assert unseen_entropy(rows.cover) == pytest.approx(entropy([3, 25 - 3]))


def test_units_are_counted_by_how_unevenly_their_instances_are_spread():
    """Clips of 1 to 9 frames, which are as many as 1 / sum of squared shares of equal length."""
    rng, frames = np.random.default_rng(0), np.arange(300) % 9 + 1
    expected = frames.sum() ** 2 / (frames**2).sum()
    samples = [
        SampledInstances(tuple(np.bincount(rng.integers(0, 32, 300), frames, 32)), 0, True)
        for _ in range(400)
    ]
    found = np.array([sample.effective for sample in samples])
    assert 1 / np.mean(1 / found) == pytest.approx(expected, rel=0.05)
    assert (found > expected / 3).all()
    assert (found < 3 * expected).all()


@pytest.mark.parametrize(
    ("by_group", "has_units", "effective"),
    [
        ((7, 9, 0, 4), False, 20),
        ((7, 9, 6, 8), True, 30),  # no less evenly than 30 alone
        ((5, 5), True, 10),
        ((10, 0), True, 1),
        ((99, 1), True, 2),  # two groups have at least two units
        ((0, 0), True, 0),
    ],
)
def test_how_many_instances_are_independent(by_group, has_units, effective):
    assert SampledInstances(by_group, 0, has_units).effective == pytest.approx(effective, abs=0.5)


def of_sizes(sizes, groups=32, seed=0):
    """Sums of instances with so many rows, all in the same state."""
    of_group = np.random.default_rng(seed).integers(0, groups, len(sizes))
    rows = np.bincount(of_group, sizes, groups).astype(np.int64)
    present = [own[own > 0] for own in rows[:, None]]
    sample = SampledInstances(tuple(np.bincount(of_group, minlength=groups).tolist()))
    places = tuple(np.zeros(len(own), np.int64) for own in present)
    return GroupSums.of(GroupTable(rows.sum(keepdims=True), places, tuple(present), sample))


@pytest.mark.parametrize("rows", [1, 7, 10**6])
def test_instances_of_equal_size_all_count(rows):
    assert of_sizes(np.full(301, rows)).cover.effective == 301


def test_instances_of_unequal_size_count_as_fewer():
    """As 1 / sum of squared shares of the rows; some have no rows, as masked ones."""
    sizes = np.ceil(np.random.default_rng(1).lognormal(2, 1, 400)).astype(int)
    sizes[:40] = 0
    expected = sizes.sum() ** 2 / (sizes**2).sum()
    found = np.array([of_sizes(sizes, seed=seed).cover.effective for seed in range(50)])
    assert 1 / np.mean(1 / found) == pytest.approx(expected, rel=0.05)
    assert expected < 200
    assert of_sizes([5] * 9 + [10**6]).cover.effective < 1.2
    assert of_sizes([3], groups=2).cover.effective == 1


def test_coverage_is_less_certain_if_few_instances_have_most_rows():
    """128 instances, four in a group; by hand."""
    table = np.zeros((32, 34), np.int64)
    table[:, 0] = 76
    table[:16, 0] += 72
    table[0, 1:33] = 4
    states = np.arange(34, dtype=np.uint8)[:, None]
    parts = [ts.StateCounts(states[row > 0], row[row > 0], 8) for row in table]
    found = ts.GroupedCounts(parts, [4] * 32).estimate()
    rows = table.sum(axis=1)
    variance = ((rows - rows.mean()) ** 2).sum() / (128 - 128 / 32)  # of an instance's rows
    number = 128 / (1 + variance / (rows.sum() / 128) ** 2)
    assert number < 80
    c = found.coverage
    least = found.least_coverage  # of which the sample's is a normal error away
    assert c - least == pytest.approx(1.645 * (least * (1 - least) / number) ** 0.5)


def test_a_kind_of_instance_that_none_was_of():
    """All rows of such an instance have another state: many rows of each tell no more of it."""
    part = ts.StateCounts(np.arange(4, dtype=np.uint8)[:, None], [1000] * 4, 3)
    found = ts.GroupedCounts([part] * 32, [5] * 32).estimate()
    one_of_a_hundred = entropy([1, 99]) + 0.99 * 2
    assert (found.value, found.quality) == (pytest.approx(2, abs=1e-4), "good")
    assert found.lower < one_of_a_hundred < found.upper
