"""Forward passes that an exception ends, where layers are in memory: as if they had not begun."""

import contextlib
import copy

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu._capturing.pass_marks import PassMarks
from tests.support.points import new_point, rows_of

KINDS = {
    "states": {},
    "counts": {"keep": "counts"},
    "groups": {"keep": "counts", "groups": 8},
}


class Breaking(torch.nn.Module):
    """Passes its input on, or raises what it is told to."""

    error = None

    def forward(self, x):
        if self.error is not None:
            raise self.error
        return x


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
@pytest.mark.parametrize("kept", ["states", "counts", "store", "counts in a store"])
def test_passes_that_failed_before_take_no_later_one_with_them(
    kept, within, failed, model, tmp_path
):
    """The program has caught their exceptions, so layers have seen different numbers of inputs."""
    runs, options = [], {"keep": "counts" if "counts" in kept else "states"}
    if "store" in kept:
        options["storage_path"] = tmp_path / "run.zarr"

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
    assert [point.instance_count for point in runs[0].values()] == expected
    if "store" in kept:
        stored = ts.Store(tmp_path / "run.zarr")
        assert [layer.instance_count for layer in stored.efficiency_layers] == expected
        assert stored.verify().good


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
