"""Forward passes that an exception ends, where layers are in memory: as if they had not begun."""

import contextlib
import copy

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu._capturing.pass_marks import PassMarks
from tests.support.points import new_point, rows_of
from tests.support.torch_models import Breaking

KINDS = {
    "states": {},
    "counts": {"keep": "counts"},
    "groups": {"keep": "counts", "groups": 8},
}


KEPT = ["states", "counts", "store", "counts in a store"]


def options_of(kept, tmp_path):
    options = {"keep": "counts" if "counts" in kept else "states"}
    return options | ({"storage_path": tmp_path / "run.zarr"} if "store" in kept else {})


def instance_counts(run, kept, tmp_path):
    """How many inputs each layer has, of the run, and also in its store."""
    counts = [point.instance_count for point in run.values()]
    if "store" in kept:
        stored = ts.Store(tmp_path / "run.zarr")
        assert stored.verify().good
        listed = [layer.instance_count for layer in stored.efficiency_layers]
        assert [each for each in listed if each] == [each for each in counts if each]
    return counts


@pytest.fixture
def model():
    torch.manual_seed(0)
    linear = torch.nn.Linear
    return torch.nn.Sequential(linear(3, 16), linear(16, 16), Breaking(), linear(16, 8))


def data():
    return torch.randn(100, 3, generator=torch.Generator().manual_seed(1))


def capture(model, inputs, error=None, labels=None, broken_at=None, **options):
    """Capture batches of 5; in the last one, or the one at a position, the model raises."""
    batches = inputs.split(5)
    broken_at = len(batches) - 1 if broken_at is None else broken_at
    try:
        with ts.capture(model, "Linear", **options) as run:
            for number, batch in enumerate(batches):
                model[2].error = error if number == broken_at else None
                first = 5 * number
                run.labels(None if labels is None else labels[first : first + 5])
                model(batch)
    except (KeyboardInterrupt, RuntimeError):
        assert error is not None
    finally:
        model[2].error = None
    return run


def assert_same(run, expected):
    for name, point in run.items():
        other = expected[name]
        assert point.histogram() == other.histogram()
        assert point.instance_count == other.instance_count
        assert point.passes == other.passes
        if point.keep == "states":
            np.testing.assert_array_equal(point.raw_states, other.raw_states)
        if point.options.groups:
            assert point.grouped() == other.grouped()
            assert point.estimate() == other.estimate()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("the model")], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_pass_is_taken_back(kind, error, model, chunks_of):
    chunks_of(16)
    inputs = data()
    broken = capture(model, inputs[:40], error, **KINDS[kind])
    assert_same(broken, capture(model, inputs[:35], **KINDS[kind]))
    assert broken.instance_count == 35
    assert str(broken.report()) == str(capture(model, inputs[:35], **KINDS[kind]).report())


@pytest.mark.parametrize("labels", [np.arange(100) % 3, [f"{i % 3}" for i in range(100)]])
@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_a_broken_pass_are_forgotten(kind, labels, model):
    inputs = data()
    broken = capture(model, inputs[:40], KeyboardInterrupt(), labels, **KINDS[kind])
    expected = capture(model, inputs[:35], None, labels, **KINDS[kind])
    assert_same(broken, expected)
    for name, point in broken.items():
        assert point.counts_by() == expected[name].counts_by()


@pytest.mark.parametrize("kind", KINDS)
def test_a_first_pass_that_breaks_leaves_nothing(kind, model):
    run = capture(model, data()[:5], KeyboardInterrupt(), **KINDS[kind])
    assert {point.state_count for point in run.values()} == {0}
    with pytest.raises(ts.errors.NothingCaptured):
        run.report()


def test_compressed_rows_are_taken_back(model, chunks_of):
    numcodecs = pytest.importorskip("numcodecs")
    chunks_of(16)
    codec = numcodecs.Zstd()
    broken = capture(model, data(), KeyboardInterrupt(), compressor=codec)
    assert_same(broken, capture(model, data()[:95]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_that_all_layers_have_seen_is_kept(kind, model):
    def interrupted():
        with ts.capture(model, "Linear", **KINDS[kind]) as run:
            runs.append(run)
            model(data())
            raise KeyboardInterrupt

    runs = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert runs[0].instance_count == 100


class Sometimes(torch.nn.Module):
    """Its second layer runs in every other pass, and so has other numbers of inputs."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (torch.nn.Linear(3, 3) for _ in range(3))
        self.breaking, self.calls = Breaking(), 0

    def forward(self, x):
        self.calls += 1
        x = self.first(x)
        return self.third(self.breaking(x if self.calls % 2 else self.second(x)))


@pytest.mark.parametrize("passes", [4, 5])
@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("kept", ["states", "counts", "store"])
def test_layers_that_run_in_some_passes_only(kept, within, passes, tmp_path):
    """An exception between passes leaves all passes; one within a pass takes that back."""
    model, runs = Sometimes(), []
    store = tmp_path / "run.zarr"
    options = {"storage_path": store} if kept == "store" else {"keep": kept}

    def interrupted():
        with ts.capture(model, "Linear", **options) as run:
            runs.append(run)
            for _ in range(passes):
                model(data())
            model.breaking.error = KeyboardInterrupt() if within else None
            model(data())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    whole = passes + (not within)
    expected = [100 * whole, 100 * (whole // 2), 100 * whole]
    found = ts.Store(store).efficiency_layers if kept == "store" else runs[0].values()
    assert [point.instance_count for point in found] == expected


@pytest.mark.parametrize("failed", [1, 2])
@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("kept", KEPT)
def test_passes_that_failed_before_take_no_later_one_with_them(
    kept, within, failed, model, tmp_path
):
    """The program has caught their exceptions, so layers have seen different numbers of inputs."""
    runs, options = [], options_of(kept, tmp_path)

    def program():
        with ts.capture(model, "Linear", **options) as run:
            runs.append(run)
            for number in range(6):
                model[2].error = ValueError() if 1 <= number <= failed else None
                with contextlib.suppress(ValueError):
                    model(data()[:5])
            model[2].error = KeyboardInterrupt() if within else None
            model(data()[:5])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        program()
    whole = 5 * (6 + (not within))
    expected = [whole, whole, whole - 5 * failed]
    assert instance_counts(runs[0], kept, tmp_path) == expected


@pytest.mark.parametrize("kept", KEPT)
def test_two_passes_that_break_at_the_same_place(kept, model, tmp_path):
    """The program has caught the exception of the first. The last layer has never run."""
    runs = []

    def program():
        with ts.capture(model, ["1", "3"], **options_of(kept, tmp_path)) as run:
            runs.append(run)
            for error in (ValueError(), KeyboardInterrupt()):
                model[2].error = error
                with contextlib.suppress(ValueError):
                    model(data()[:5])

    with pytest.raises(KeyboardInterrupt):
        program()
    assert instance_counts(runs[0], kept, tmp_path) == [5, 0]


class Tasks(torch.nn.Module):
    """Each pass is of one task, and runs layers of its own."""

    def __init__(self):
        super().__init__()
        layers = [
            torch.nn.Sequential(torch.nn.Linear(3, 8), Breaking(), torch.nn.Linear(8, 4))
            for _ in range(3)
        ]
        self.tasks = torch.nn.ModuleList(layers)

    def forward(self, x, task):
        return self.tasks[task](x)


@pytest.mark.parametrize("kept", KEPT)
def test_a_pass_that_breaks_before_it_comes_to_a_layer(kept, tmp_path):
    """The pass before it stays: it was complete, though it was of another task."""
    model, runs = Tasks(), []

    def program():
        layers = ["tasks.0.2", "tasks.1.2"]
        with ts.capture(model, layers, **options_of(kept, tmp_path)) as run:
            runs.append(run)
            for task in (0, 1, 0):
                model(data()[:5], task)
            model.tasks[1][1].error = KeyboardInterrupt()
            model(data()[:5], 1)

    with pytest.raises(KeyboardInterrupt):
        program()
    assert instance_counts(runs[0], kept, tmp_path) == [10, 5]


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("order", [[0, 1, 2, 1, 2], [0, 1, 1], [2, 0, 0, 1, 0, 1], [0, 1, 2, 0]])
@pytest.mark.parametrize("kept", KEPT)
def test_passes_that_begin_with_other_layers(kept, order, within, tmp_path):
    """What is taken back is the pass that breaks, and not what came since its first layer ran."""
    model, runs = Tasks(), []

    def program():
        with ts.capture(model, "Linear", **options_of(kept, tmp_path)) as run:
            runs.append(run)
            for number, task in enumerate(order):
                last = number == len(order) - 1
                model.tasks[task][1].error = KeyboardInterrupt() if within and last else None
                model(data()[:5], task)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        program()
    whole = order[:-1] if within else order
    expected = [5 * whole.count(task) for task in range(3) for _ in range(2)]
    assert instance_counts(runs[0], kept, tmp_path) == expected


class Twice(torch.nn.Module):
    """Its first layer runs twice in each pass."""

    def __init__(self):
        super().__init__()
        self.first, self.breaking = torch.nn.Linear(3, 3), Breaking()
        self.second = torch.nn.Linear(3, 3)

    def forward(self, x):
        return self.first(self.second(self.breaking(self.first(x))))


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("kept", KEPT)
def test_passes_that_run_their_first_layer_again(kept, within, tmp_path):
    model, runs = Twice(), []

    def program():
        options = options_of(kept, tmp_path)
        with ts.capture(model, "Linear", merge_calls=True, **options) as run:
            runs.append(run)
            model(data()[:5])
            model(data()[:5])
            model.breaking.error = KeyboardInterrupt() if within else None
            model(data()[:5])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        program()
    whole = 3 - within
    assert instance_counts(runs[0], kept, tmp_path) == [10 * whole, 5 * whole]


class Described(torch.nn.Sequential):
    """A model that has a method of its own."""

    def describe(self, x):
        return "a model"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("kept", KEPT)
def test_a_method_that_is_called_before_the_block_ends(kept, error, model, tmp_path):
    """It tells that the pass before it has failed."""
    described = Described(*model)

    def program():
        with ts.capture(described, "Linear", **options_of(kept, tmp_path)) as run:
            runs.append(run)
            for _ in range(3):
                described(data())
            model[2].error = error()
            try:
                described(data())
            finally:
                described.describe(data())

    runs = []
    with pytest.raises(error):
        program()
    assert instance_counts(runs[0], kept, tmp_path) == [300] * 3
    assert [(point.passes, point.failed_passes) for point in runs[0].values()] == [((3, 3), 0)] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_what_came_since_the_last_mark_goes(kind):
    marks = PassMarks()
    points = [new_point(name=name, **KINDS[kind]) for name in "abc"]
    for point in points:
        point.intake.begin_marks(marks)
    for number in range(4):
        for point in points:
            point.append(rows_of(7, seed=number), 7)
    for point in points[:2]:
        point.append(rows_of(7, seed=9), 7)
    assert marks.discard_broken_pass()
    expected = ts.count_states(np.concatenate([rows_of(7, seed=n) for n in range(4)]), 16)
    for point in points:
        assert point.histogram() == expected
        point.append(rows_of(7, seed=9), 7)
    assert not marks.discard_broken_pass()
    assert {point.instance_count for point in points} == {35}


def test_copies_have_the_counts_without_a_broken_pass(model):
    run = capture(model, data()[:40], KeyboardInterrupt(), keep="counts")
    twin = copy.deepcopy(run)
    for name, point in run.items():
        assert twin[name].histogram() == point.histogram()


def test_the_memory_for_a_broken_pass_is_freed(model):
    run = capture(model, data(), keep="counts")
    for point in run.values():
        assert point.intake.marks is None
        assert point.intake.accumulator._counters._held is None
