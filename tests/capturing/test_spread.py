"""Slices of neurons, copies, and rows of their own, on meshes of ranks that are threads."""

import itertools
import math

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._capturing import run as run_module
from tensorstate_gpu._capturing import spread as spread_module
from tensorstate_gpu._capturing.spread import Spread, Step
from tests.support.points import new_point
from tests.support.samples import thinned
from tests.support.thread_ranks import on_ranks, parts_of

NEURONS, OWN, COPIES = "neurons", "own", "copies"
MIXES = [
    (shape, kinds)
    for shape in [(2,), (3,), (2, 2), (2, 3)]
    for kinds in itertools.product([NEURONS, OWN, COPIES], repeat=len(shape))
]


@pytest.fixture(autouse=True)
def ranks_are_given(monkeypatch):
    monkeypatch.setattr(run_module, "ranks_of", lambda ranks: ranks)
    monkeypatch.setattr(spread_module, "_BLOCK", 8)  # rows that are joined at a time


def part_of(states, shape, kinds, place):
    """The part of states (rows, neurons) that a rank of a mesh has, as torch cuts tensors."""
    for size, kind, index in zip(shape, kinds, place, strict=True):
        if kind != COPIES:
            axis = 1 if kind == NEURONS else 0
            states = np.array_split(states, size, axis)[index]
    return states


@pytest.mark.parametrize("neurons", thinned([13, 40], [13]))
@pytest.mark.parametrize(("shape", "kinds"), MIXES, ids=str)
def test_all_mixes_give_the_states_of_one_process(shape, kinds, neurons):
    states = np.random.default_rng(1).integers(0, 2, (61, neurons))
    states[20:50] = states[:30]  # some states occur twice
    whole = ts.count_states(ts.compress_states(states), neurons=neurons)

    def sync(ranks):
        place = np.unravel_index(ranks.rank, shape)
        own = part_of(states, shape, kinds, place)
        point = new_point(neurons=own.shape[1])
        for some in np.array_split(own, 3):
            point.append(ts.compress_states(some), len(some))
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
        if NEURONS in kinds:
            with pytest.raises(ts.errors.LabelsMissing, match="joined without the inputs"):
                layer.counts_by()
            with pytest.raises(ts.errors.RowsNotKept, match="joined without the inputs"):
                layer.estimate()
        return layer.histogram().gather()

    found = on_ranks(math.prod(shape), sync)
    assert found == [whole] + [None] * (len(found) - 1)


def labelled(rows, **options):
    """A capture point with an input for each row, with its label, which is its unit, too."""
    point = new_point(neurons=9, **options)
    labels = np.arange(len(rows)) % 5
    point.append(ts.compress_states(rows), len(rows), labels=labels, units=labels)
    return point


@pytest.mark.parametrize("options", [{"keep": "states"}, {"keep": "counts", "groups": 32}], ids=str)
def test_copies_have_labels_and_groups_once(options):
    states = np.random.default_rng(2).integers(0, 2, (40, 9))
    whole = labelled(states, **options)

    def sync(ranks):
        point = labelled(states, **options)
        point.spread = Spread((Step("copies", ranks),), 9)
        layer = ts.Run([point]).sync(ranks)["layer"]
        by_label = {label: counts.gather() for label, counts in layer.counts_by().items()}
        both = {label: counts.gather() for label, counts in layer.grouped_by().items()}
        return layer.histogram().gather(), by_label, layer.grouped().gather(), both

    found, *_ = on_ranks(3, sync)
    assert found == (whole.histogram(), whole.counts_by(), whole.grouped(), whole.grouped_by())


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
