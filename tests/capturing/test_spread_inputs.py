"""What is known of the inputs of slices and copies: their labels, their units, and how many."""

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._capturing.spread import Spread, Step
from tests.support.points import new_point
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

INPUTS = ["cat", "dog", "cat", "eel", "dog", "cat", "dog", "cat"]
ROWS = [3, 0, 2, 0, 4, 1, 5, 2]  # of each input: none with an eel


def uneven(states, **notes):
    """A capture point whose inputs have other numbers of rows."""
    point = new_point(neurons=states.shape[1])
    ends = np.cumsum(ROWS)
    for number, (stop, rows) in enumerate(zip(ends, ROWS, strict=True)):
        own = {what: [each[number]] for what, each in notes.items()}
        point.append(ts.compress_states(states[stop - rows : stop]), 1, **own)
    return point


@pytest.mark.parametrize("kinds", [[NEURONS, NEURONS], [COPIES, NEURONS], [NEURONS, COPIES]])
def test_rows_of_joined_slices_belong_to_their_inputs(kinds):
    """Which have other numbers of rows, or none; the labels are strings."""
    states = np.random.default_rng(4).integers(0, 2, (sum(ROWS), 9))

    def sync(ranks):
        own = part_of(states, (2, 2), kinds, np.unravel_index(ranks.rank, (2, 2)))
        point = uneven(own, labels=INPUTS)
        steps = [Step(kinds[dim], parts_of(ranks, (2, 2), dim)) for dim in (1, 0)]
        point.spread = Spread(tuple(steps), 9)
        layer = ts.Run([point]).sync(ranks)["layer"]
        return gathered(layer), layer.estimate("efficiency").sample, list(layer.grouped_by())

    whole = uneven(states, labels=INPUTS)
    found = on_ranks(4, sync)
    assert found[0][0] == whole_of(whole)
    for _, sample, labels in found:
        assert sample == whole.grouped().sample
        assert labels == ["cat", "dog"]


UNITS = list(range(8))


@pytest.mark.parametrize(
    ("notes", "errors"),
    [
        ({}, {"counts_by": "LabelsMissing"}),
        ({"units": UNITS}, {"counts_by": "LabelsMissing"}),
        ({"labels": INPUTS, "units": UNITS}, {}),
    ],
    ids=str,
)
def test_joined_slices_have_what_is_known_of_their_inputs(notes, errors):
    states = np.random.default_rng(5).integers(0, 2, (sum(ROWS), 9))

    def sync(ranks):
        point = uneven(np.array_split(states, 2, axis=1)[ranks.rank], **notes)
        point.spread = Spread((Step(NEURONS, ranks),), 9)
        layer = ts.Run([point]).sync(ranks)["layer"]
        return layer.histogram().gather(), layer.grouped().gather(), errors_of(layer)

    (histogram, grouped, raised), _ = on_ranks(2, sync)
    whole = uneven(states, **notes)
    assert (histogram, grouped) == (whole.histogram(), whole.grouped())
    assert raised == errors


def errors_of(layer):
    """Which readings raise errors, and of which kind."""
    found = {}
    for name in ("counts_by", "grouped"):
        try:
            getattr(layer, name)()
        except ts.errors.TensorStateError as error:
            found[name] = type(error).__name__
    return found


def test_joined_slices_of_unknown_inputs():
    """Their states are joined; by label and by group there are none."""
    states = np.random.default_rng(6).integers(0, 2, (20, 9))

    def sync(ranks):
        own = np.array_split(states, 2, axis=1)[ranks.rank]
        point = new_point(neurons=own.shape[1])
        point.intake.record(ts.compress_states(own), own.shape[1], 1, ((4, -20),))
        point.spread = Spread((Step(NEURONS, ranks),), 9)
        layer = ts.Run([point]).sync(ranks)["layer"]
        return layer.histogram().gather(), errors_of(layer)

    whole = ts.count_states(ts.compress_states(states), neurons=9)
    errors = {"counts_by": "LabelsMissing", "grouped": "RowsNotKept"}
    assert on_ranks(2, sync) == [(whole, errors), (None, errors)]


def test_joined_slices_of_which_some_inputs_have_no_unit():
    """There are no groups then, but labels."""
    states = np.random.default_rng(7).integers(0, 2, (20, 9))

    def captured(states):
        point = new_point(neurons=states.shape[1])
        for units, own in zip(
            (range(10), None), np.split(ts.compress_states(states), 2), strict=True
        ):
            point.append(own, 10, labels=np.arange(10) % 3, units=units)
        return point

    def sync(ranks):
        point = captured(np.array_split(states, 2, axis=1)[ranks.rank])
        point.spread = Spread((Step(NEURONS, ranks),), 9)
        layer = ts.Run([point]).sync(ranks)["layer"]
        by_label = {label: counts.gather() for label, counts in layer.counts_by().items()}
        return by_label, errors_of(layer)

    found, *_ = on_ranks(2, sync)
    assert found == (captured(states).counts_by(), {"grouped": "RowsNotKept"})


FOUR = np.arange(4)
OTHER_NOTES = {  # of the inputs of two ranks that share them
    "other labels": ({"labels": FOUR}, {"labels": FOUR + 1}),
    "no labels": ({"labels": FOUR}, {}),
    "no units": ({"units": FOUR}, {}),
    "no units, but labels": ({"labels": FOUR, "units": FOUR}, {"labels": FOUR}),
    "labels swapped": (
        {"labels": [0, 1, 2, 3], "units": FOUR // 2},
        {"labels": [1, 0, 2, 3], "units": FOUR // 2},
    ),
    "strings": ({"labels": ["0", "1", "2", "3"]}, {"labels": FOUR}),
}
KEPT = [{"keep": "states"}, {"keep": "counts"}, {"keep": "counts", "groups": 8}]


@pytest.mark.parametrize(
    ("notes", "kind", "options"),
    [
        (notes, kind, options)
        for notes in OTHER_NOTES
        for kind, options in [(NEURONS, KEPT[0]), *((COPIES, options) for options in KEPT)]
        if notes != "labels swapped" or options == KEPT[0]  # counts do not know the inputs
    ],
    ids=str,
)
def test_ranks_that_share_inputs_must_have_the_same_labels(notes, kind, options):
    """Each counts a part of the rows by its own."""

    def sync(ranks):
        point = new_point(neurons=9, **options)
        rows = ts.compress_states(np.ones((4, 9)))
        point.append(rows, 4, **OTHER_NOTES[notes][ranks.rank])
        point.spread = Spread((Step(kind, ranks),), 18 if kind == NEURONS else 9)
        return ts.Run([point]).sync(ranks)

    found = on_ranks(2, sync)
    assert {type(error) for error in found} == {ts.errors.RanksDisagree}
    assert "layer: ranks 0 and 1 share their inputs, but not the labels" in str(found[0])


def test_ranks_that_share_inputs_may_have_other_batches():
    """Labels that come in other pieces, of another type, are the same."""

    def sync(ranks):
        point = new_point(neurons=9)
        parts, kind = ((1, 3), np.int32) if ranks.rank else ((4,), np.int64)
        for part in np.split(FOUR.astype(kind), np.cumsum(parts)[:-1]):
            point.append(ts.compress_states(np.ones((len(part), 9))), len(part), labels=part)
        point.spread = Spread((Step(COPIES, ranks),), 9)
        return list(ts.Run([point]).sync(ranks)["layer"].counts_by())

    assert on_ranks(2, sync) == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize("options", [{"keep": "states"}, {"keep": "counts", "groups": 32}], ids=str)
def test_copies_have_labels_and_groups_once(options):
    states = np.random.default_rng(2).integers(0, 2, (40, 9))
    whole = labelled(states, **options)

    def sync(ranks):
        point = labelled(states, **options)
        point.spread = Spread((Step("copies", ranks),), 9)
        return gathered(ts.Run([point]).sync(ranks)["layer"])

    found, *_ = on_ranks(3, sync)
    assert found == whole_of(whole)


def test_labelled_inputs_of_slices_without_rows_leave_other_layers_alone():
    def sync(ranks):
        empty, full = new_point(neurons=8), new_point(name="full", neurons=8)
        empty.append(np.zeros((0, 1), np.uint8), 4, labels=[0, 1, 0, 1])
        full.append(np.arange(4, dtype=np.uint8)[:, None], 4, labels=[0, 1, 0, 1])
        empty.spread = Spread((Step(NEURONS, ranks),), 16)
        run = ts.Run([empty, full]).sync(ranks)
        with pytest.raises(ts.errors.NothingCaptured):
            run["layer"].histogram()
        return run["full"].histogram().gather().total

    assert on_ranks(2, sync)[0] == 8
