"""Slices of neurons, copies, and rows of their own, on meshes of ranks that are threads."""

import functools
import itertools
import math
import threading

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._capturing import spread as spread_module
from tensorstate_gpu._capturing.spread import Spread, Step
from tests.support.points import new_point
from tests.support.samples import thinned
from tests.support.spread_points import (  # noqa: F401
    COPIES,
    NEURONS,
    OWN,
    gathered,
    labelled,
    part_of,
    several_blocks,
    whole_of,
)
from tests.support.thread_ranks import on_ranks, parts_of, ranks_are_given  # noqa: F401

MIXES = [
    (shape, kinds)
    for shape in [(2,), (3,), (2, 2), (2, 3)]
    for kinds in itertools.product([NEURONS, OWN, COPIES], repeat=len(shape))
]


@pytest.mark.parametrize("neurons", thinned([13, 17, 33, 40], [17]))  # 9 + 8: 2 bytes and 1
@pytest.mark.parametrize(("shape", "kinds"), MIXES, ids=str)
def test_all_mixes_give_the_states_of_one_process(shape, kinds, neurons):
    """All together, by label, by group and by both."""
    states = np.random.default_rng(1).integers(0, 2, (61, neurons))
    states[20:50] = states[:30]  # some states occur twice
    numbers = np.repeat(np.arange(61)[:, None], neurons, axis=1)

    def captured(states, numbers):
        point = new_point(neurons=states.shape[1])
        for some, which in zip(np.array_split(states, 3), np.array_split(numbers, 3), strict=True):
            notes = {"labels": which[:, 0] % 5, "units": which[:, 0] // 2}
            point.append(ts.compress_states(some), len(some), **notes)
        return point

    def sync(ranks):
        place = np.unravel_index(ranks.rank, shape)
        point = captured(*(part_of(each, shape, kinds, place) for each in (states, numbers)))
        steps = [
            Step(kinds[dim], parts_of(ranks, shape, dim))
            for dim in reversed(range(len(shape)))
            if kinds[dim] != OWN
        ]
        point.spread = Spread(tuple(steps), neurons)
        if NEURONS in kinds:
            with pytest.raises(ts.errors.SliceOfNeurons, match=f"of {neurons} neurons; run.sync"):
                point.entropy()
        layer = ts.Run([point]).sync(ranks)["layer"]
        assert layer.instance_count == 61  # those of ranks that share rows count once
        return gathered(layer)

    found, *_ = on_ranks(math.prod(shape), sync)
    assert found == whole_of(captured(states, numbers))


def test_slices_are_joined_across_one_axis_of_copies():
    """Of copies along the other axis, all ranks are not there: none of them is left out."""
    states = np.random.default_rng(8).integers(0, 2, (40, 9))

    def sync(ranks):
        along, across = (parts_of(ranks, (2, 2), dim) for dim in (0, 1))
        point = labelled(np.array_split(states, 2, axis=1)[across.rank])
        point.spread = Spread((Step(NEURONS, across), Step(COPIES, along)), 9)
        return ts.Run([point]).sync(across)["layer"].histogram().gather()

    whole = ts.count_states(ts.compress_states(states), neurons=9)
    assert on_ranks(4, sync) == [whole, None, whole, None]


@pytest.mark.parametrize("kind", ["neurons", "copies"])
def test_ranks_that_share_rows_must_have_as_many(kind):
    def sync(ranks):
        point = new_point(neurons=9)
        point.append(ts.compress_states(np.ones((4 + ranks.rank, 9))), 4 + ranks.rank)
        point.spread = Spread((Step(kind, ranks),), 18)
        return ts.Run([point]).sync(ranks)

    found = on_ranks(2, sync)
    assert {type(error) for error in found} == {ts.errors.RanksDisagree}
    assert "layer: the number of rows of ranks 0 and 1, which share them" in str(found[0])


def test_slices_need_all_their_ranks():
    """Merged over an axis across which they are not spread, they lack their other neurons."""
    states = np.ones((4, 9))

    def sync(ranks):
        along, across = (parts_of(ranks, (2, 2), dim) for dim in (0, 1))
        point = labelled(states)
        point.spread = Spread((Step("neurons", across),), 18)
        return ts.Run([point]).sync(along)

    assert {type(error) for error in on_ranks(4, sync)} == {ts.errors.RanksDisagree}


def test_copies_may_be_merged_across_other_axes_alone():
    states = np.random.default_rng(3).integers(0, 2, (2, 40, 9))

    def sync(ranks):
        along, across = (parts_of(ranks, (2, 2), dim) for dim in (0, 1))
        point = labelled(states[ranks.rank // 2])
        point.spread = Spread((Step("copies", across),), 9)
        return ts.Run([point]).sync(along)["layer"].histogram().gather()

    whole = labelled(states[0]).histogram() + labelled(states[1]).histogram()
    assert on_ranks(4, sync) == [whole, whole, None, None]


def test_what_was_captured_before_a_reset_is_forgotten():
    point = labelled(np.ones((4, 9)))
    point.spread = Spread((), 9)
    point.reset_states()
    assert point.spread is None


class SecondFails:
    """A function that has no memory for its second call on rank 1, of ranks that are threads."""

    def __init__(self, function, thread):
        self._function, self._thread, self._calls = function, thread, 0

    def __call__(self, *args):
        if self._thread.rank == 1:
            self._calls += 1
            if self._calls == 2:
                raise MemoryError("no room")
        return self._function(*args)


@pytest.mark.parametrize("kinds", [[OWN, NEURONS], [NEURONS, NEURONS]], ids=str)
@pytest.mark.parametrize("work", ["read", "_padded", "concatenate_neurons", "_count"])
def test_an_error_while_slices_are_joined_ends_all_ranks(work, kinds, monkeypatch):
    """None waits for another: not in the next block, nor along another axis, nor of a layer."""
    thread, states = threading.local(), np.random.default_rng(10).integers(0, 2, (40, 9))
    if work != "read":
        fails = SecondFails(getattr(spread_module, work), thread)
        monkeypatch.setattr(spread_module, work, fails)

    def sync(ranks):
        thread.rank = ranks.rank
        place = np.unravel_index(ranks.rank, (2, 2))
        steps = [Step(NEURONS, parts_of(ranks, (2, 2), dim)) for dim in (1, 0) if kinds[dim] != OWN]
        points = []
        for name in ("first", "second"):
            own = part_of(states, (2, 2), kinds, place)
            point = new_point(name=name, neurons=own.shape[1])
            rows = ts.compress_states(own)
            point.append(rows, len(rows))
            point.spread = Spread(tuple(steps), 9)
            points.append(point)
            if work == "read":
                each = SecondFails(np.copy, thread), np.array_split(rows, 4)
                point.intake.accumulator.chunks = functools.partial(map, *each)
        return ts.Run(points).sync(ranks)

    found = on_ranks(4, sync)
    kinds = [ts.errors.RanksDisagree, MemoryError, *[ts.errors.RanksDisagree] * 2]
    assert [type(error) for error in found] == kinds
    assert str(found[3]) == "rank 1 cannot take part: MemoryError: no room"


class LatePoint(ts.CapturePoint):
    """A capture point whose first pass ends while a reader waits for it."""

    def read_at_once(self):
        self.first_pass()
        return super().read_at_once()


def test_how_rows_are_spread_is_read_with_them():
    states = np.random.default_rng(9).integers(0, 2, (20, 9))

    def sync(ranks):
        def first_pass():
            point.spread = Spread((Step(NEURONS, ranks),), 9)
            slices = np.array_split(states, 2, axis=1)[ranks.rank]
            point.append(ts.compress_states(slices), 20)

        point = LatePoint("layer")
        point.declare(5 - ranks.rank, 1)
        point.first_pass = first_pass
        return ts.Run([point]).sync(ranks)["layer"].histogram().gather()

    assert on_ranks(2, sync)[0] == ts.count_states(ts.compress_states(states), neurons=9)
