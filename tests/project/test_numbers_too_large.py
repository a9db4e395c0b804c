"""Numbers that nothing can hold are refused by name, and do not turn into others."""

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import information, neurons

ROWS = np.array([[3], [0], [3], [1]], np.uint8)
GROUPS = np.array([[4, 2, 1], [3, 2, 2]])
HUGE = [2**63, 10**30, 10**400, 10**5000]
MOST = f"must be at most {2**63 - 1:,}, got (one of some )?[0-9]"


@pytest.mark.parametrize("given", HUGE, ids=["2**63", "10**30", "10**400", "10**5000"])
def test_more_than_arrays_hold(given, tmp_path):
    ts.count_states(ROWS, 2, to=tmp_path / "counts")
    for measure in (
        lambda: ts.StateCounts.empty(given),
        lambda: ts.StateCounts(ROWS[:0], np.zeros(0, np.int64), given),
        lambda: ts.CapturePoint("relu").declare(neurons=given),
        lambda: ts.count_states(ROWS, given),
        lambda: ts.entropy([3, 1], estimator="nsb", neurons=given),
        lambda: information.estimate(GROUPS, "efficiency", given),
        lambda: information.ceiling(10, given),
        lambda: information.efficiency([1, 1], neurons=given),
    ):
        with pytest.raises(ValueError, match=f"^neurons {MOST}"):
            measure()
    with pytest.raises(ValueError, match=f"^most {MOST}"):
        neurons.top_states(ROWS, 2, most=given)
    with pytest.raises(ValueError, match="of must be at most 1,048,576, got"):
        ts.merge_range([tmp_path / "counts"], 0, given, tmp_path / "sum")
    with pytest.raises(ValueError, match=r"instances must be fewer than 2\*\*63, got"):
        ts.GroupedCounts([ts.count_states(ROWS, 2)] * 2, [given, 1])
    assert information.ceiling(given, neurons=2**40) > 0  # of rows that nobody needs to hold


def test_more_instances_than_int64_holds():
    with pytest.raises(ValueError, match=r"instances must be fewer than 2\*\*63, got 18446744073"):
        information.estimate(GROUPS, instances=np.array([2**63, 2**63], np.uint64))


def test_rows_of_all_groups_are_more_than_int64_holds():
    """They were added up to a negative number."""
    part = ts.StateCounts(ROWS[:1], [2**62], 2)
    with pytest.raises(OverflowError, match="counts add up to more than int64 holds"):
        ts.GroupedCounts([part, part], [1, 1])
    half = ts.GroupedCounts([part, ts.StateCounts.empty(2)], [1, 1])
    other = ts.GroupedCounts([ts.StateCounts.empty(2), part], [1, 1])
    with pytest.raises(OverflowError, match="counts add up to more than int64 holds"):
        half.merge(other)
