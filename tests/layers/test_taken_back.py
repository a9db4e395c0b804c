"""Counts by label and group after a pass whose rows had neither was taken back."""

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._layers.batches import unassigned
from tests.support.points import new_point, rows_of
from tests.support.thread_ranks import on_ranks, ranks_are_given  # noqa: F401

ROWS = rows_of(60)
LABELS = np.arange(60) % 3


def captured(groups, store=None):
    point = new_point(store, keep="counts", groups=groups)
    point.append(ROWS, 60, LABELS)
    return point


def break_pass(point, within=lambda: None):
    accumulator = point.intake.accumulator
    accumulator.mark_pass_end()
    point.intake.record(ROWS[:5], 16, 1, unassigned(5, 1))
    within()
    accumulator.rewind_pass()
    return point


@pytest.mark.parametrize("kept", ["in memory", "in a store", "committed within"])
@pytest.mark.parametrize("groups", [None, 4])
def test_nothing_is_left_of_it(kept, groups, tmp_path):
    expected = captured(groups)
    with ts.Store(tmp_path / "run", "x", commit_seconds=None) as store:
        commit = store.session.flush if kept == "committed within" else lambda: None
        point = break_pass(captured(groups, None if kept == "in memory" else store), commit)
        assert list(point.counts_by()) == [0, 1, 2]
        assert point.counts_by() == expected.counts_by()
        assert "by label" in str(ts.Run([point]).report(by_label=True))
        if groups:
            assert point.grouped_by() == expected.grouped_by()
            assert point.grouped() == expected.grouped()


def test_nothing_is_left_of_it_on_any_rank():
    runs = [ts.Run([captured(None)]), ts.Run([break_pass(captured(None))])]
    for found in on_ranks(2, lambda ranks: runs[ranks.rank].sync(ranks)):
        assert list(found["layer"].counts_by()) == [0, 1, 2]
        assert "by label" in str(found.report(by_label=True))
