"""What inputs may show that the sample has none of: a share of 3 in as many as are independent."""

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.information import entropy
from tensorstate_gpu.information.bounds import unseen_entropy
from tensorstate_gpu.information.group_sums import GroupSums
from tensorstate_gpu.information.group_table import GroupTable, SampledInstances


def test_what_a_state_that_was_not_seen_may_add():
    few = GroupSums.of(GroupTable.of([[2], [1]]))
    assert unseen_entropy(few) == 1  # a share of at most one half
    rows = GroupSums.of(GroupTable.of([[6, 6], [6, 7]]))
    assert unseen_entropy(rows) == pytest.approx(entropy([3, 25 - 3]))


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


def test_a_kind_of_instance_that_none_was_of():
    """All rows of such an instance have another state: many rows of each tell no more of it."""
    part = ts.StateCounts(np.arange(4, dtype=np.uint8)[:, None], [1000] * 4, 3)
    found = ts.GroupedCounts([part] * 32, [5] * 32).estimate()
    one_of_a_hundred = entropy([1, 99]) + 0.99 * 2
    assert (found.value, found.quality) == (pytest.approx(2, abs=1e-4), "good")
    assert found.lower < one_of_a_hundred < found.upper
