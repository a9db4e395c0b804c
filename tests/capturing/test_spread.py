"""Slices of neurons, copies, and rows of their own, on meshes of ranks that are threads."""

import functools
import itertools
import math
import threading

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


def gathered(layer):
    """All that a layer of ranks has counted, at the first rank."""
    return (
        layer.histogram().gather(),
        {label: counts.gather() for label, counts in layer.counts_by().items()},
        layer.grouped().gather(),
        {label: groups.gather() for label, groups in layer.grouped_by().items()},
    )


def whole_of(point):
    """The same of one process."""
    return point.histogram(), point.counts_by(), point.grouped(), point.grouped_by()


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


def labelled(rows, **options):
    """A capture point with an input for each row, with its label, which is its unit, too."""
    point = new_point(neurons=rows.shape[1], **options)
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
        return gathered(ts.Run([point]).sync(ranks)["layer"])

    found, *_ = on_ranks(3, sync)
    assert found == whole_of(whole)


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
