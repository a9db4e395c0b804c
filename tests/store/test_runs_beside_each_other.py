"""Runs in one store that are open at the same time: what breaks one leaves the others whole."""

import contextlib
import threading

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu._capturing.options import CaptureOptions
from tests.support.points import new_point, rows_of
from tests.support.torch_models import Breaking
from tests.support.waiting import wait_until


def model_of(*sizes):
    return torch.nn.Sequential(
        torch.nn.Linear(3, sizes[0]), Breaking(), torch.nn.Linear(sizes[0], sizes[1])
    )


class Both(torch.nn.Module):
    """Two models, such as a teacher and a student, whose layers have names of their own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = model_of(8, 16), model_of(24, 8)


@pytest.fixture
def both():
    torch.manual_seed(0)
    return Both()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.zarr"


DATA = torch.ones(5, 3)


def instances(path):
    assert ts.Store(path).verify().good
    return {layer.name: layer.instance_count for layer in ts.Store(path).efficiency_layers}


def run_until_broken(model, passes, within):
    for _ in range(passes):
        model(DATA)
    model[1].error = KeyboardInterrupt() if within else None
    try:
        model(DATA)
    finally:
        model[1].error = None
    raise KeyboardInterrupt


@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("passes", [1, 3])
def test_a_run_within_another_breaks(passes, within, keep, both, path):
    names = ["first.0", "first.2"], ["second.0", "second.2"]
    with ts.Store(path, "x", commit_seconds=None) as store:
        options = {"storage_path": store, "keep": keep}
        with ts.capture(torch.nn.ModuleDict({"first": both.first}), names[0], **options) as run:
            for _ in range(3):
                both.first(DATA)
            second = torch.nn.ModuleDict({"second": both.second})
            with (
                contextlib.suppress(KeyboardInterrupt),
                ts.capture(second, names[1], **options) as other,
            ):
                run_until_broken(both.second, passes, within)
            assert run.instance_count == 15
            both.first(DATA)
        assert other.instance_count == 5 * (passes + (not within))
    seen = {0: 20, 1: 5 * (passes + (not within))}
    expected = {f"{n}_post_states": seen[k] for k in (0, 1) for n in names[k]}
    assert instances(path) == expected


@pytest.mark.parametrize("within", [True, False])
def test_runs_of_one_model(within, both, path):
    """Each has some of its layers; the second begins later."""
    model = both.first
    with (
        ts.Store(path, "x", commit_seconds=None) as store,
        ts.capture(model, ["0"], storage_path=store),
    ):
        for _ in range(3):
            model(DATA)
        with (
            contextlib.suppress(KeyboardInterrupt),
            ts.capture(model, ["2"], storage_path=store),
        ):
            run_until_broken(model, 2, within)
    passes = 2 + (not within)
    assert instances(path) == {"0_post_states": 15 + 5 * passes, "2_post_states": 5 * passes}


class Chosen(Both):
    """Each pass is of one of the two."""

    def forward(self, x, name):
        return getattr(self, name)(x)


def test_runs_of_one_model_each_of_which_counts_passes(path):
    """The first pass that the second run sees is a new one for the first run, too."""
    model = Chosen()
    with ts.Store(path, "x", commit_seconds=None) as store:
        layers = ["first.0", "second.2"]
        with ts.capture(model, layers, storage_path=store):
            model(DATA, "second")
            with (
                contextlib.suppress(KeyboardInterrupt),
                ts.capture(model, ["first.2"], storage_path=store),
            ):
                model.first[1].error = KeyboardInterrupt()
                model(DATA, "first")
    found = {name: seen for name, seen in instances(path).items() if seen}
    assert found == {"second.2_post_states": 5}


def test_a_pass_that_comes_to_no_layer_after_another_run_has_ended_takes_none_with_it(path):
    model = Chosen()
    with (
        ts.Store(path, "x", commit_seconds=None) as store,
        contextlib.suppress(KeyboardInterrupt),
        ts.capture(model, ["first.2", "second.0"], storage_path=store),
    ):
        with ts.capture(model, ["first.0"], storage_path=store):
            model(DATA, "second")
            model(DATA, "first")
        model.first[1].error = KeyboardInterrupt()
        model(DATA, "first")
    assert set(instances(path).values()) == {5}


def test_a_run_in_which_nothing_has_come_yet_takes_no_pass_of_another(path):
    model = Chosen()
    with ts.Store(path, "x", commit_seconds=None) as store:
        layers = ["first.0", "first.2", "second.0"]
        with ts.capture(model, layers, storage_path=store):
            for name in ("second", "first", "first"):
                model(DATA, name)
            with (
                contextlib.suppress(KeyboardInterrupt),
                ts.capture(model, ["second.2"], storage_path=store),
            ):
                raise KeyboardInterrupt
    found = {name: seen for name, seen in instances(path).items() if seen}
    assert found == {f"{layers[k]}_post_states": (10, 10, 5)[k] for k in range(3)}


@pytest.mark.parametrize("within", [True, False])
def test_a_run_of_another_thread_goes_on(within, both, path):
    """No batch of it is refused, and none is lost, while a broken pass is taken back."""
    begun, ended = threading.Event(), threading.Event()

    def run_first(store):
        layers = torch.nn.ModuleDict({"first": both.first})
        with ts.capture(layers, ["first.0", "first.2"], storage_path=store):
            while not (ended.is_set() and begun.is_set()) or len(done) < 20:
                both.first(DATA)
                done.append(None)
                begun.set()

    done = []
    with ts.Store(path, "x", commit_seconds=None, commit_rows=100) as store:
        thread = threading.Thread(target=run_first, args=(store,))
        thread.start()
        assert begun.wait(60)
        second = torch.nn.ModuleDict({"second": both.second})
        with (
            contextlib.suppress(KeyboardInterrupt),
            ts.capture(second, ["second.0", "second.2"], storage_path=store),
        ):
            run_until_broken(both.second, 4, within)
        ended.set()
        thread.join()
    found = instances(path)
    assert {found[f"first.{k}_post_states"] for k in (0, 2)} == {5 * len(done)}
    assert {found[f"second.{k}_post_states"] for k in (0, 2)} == {5 * (4 + (not within))}


def test_broken_passes_of_two_threads_at_once(path):
    """While one is taken back, the other's layers take no batches either."""
    store, may_go_on = ts.Store(path, "x", commit_seconds=None), threading.Event()
    writer = store.session.writer
    points = [
        ts.CapturePoint(name, options=CaptureOptions(disk_path=store, run=run))
        for run, name in zip((1, 1, 2, 2), "abcd", strict=True)
    ]
    for point in points:
        point.declare(16)
        point.append(rows_of(7), 7)
    for point in points[::2]:
        point.append(rows_of(7), 7)  # a pass that did not get to the others
    writer._background.submit(lambda: may_go_on.wait(60))
    threads = [threading.Thread(target=writer.discard_broken_pass, args=(run,)) for run in (1, 2)]
    for number, thread in enumerate(threads):
        thread.start()
        wait_until(lambda number=number: points[2 * number].name in writer._broken)
    for point in points:
        with pytest.raises(ts.errors.StoreClosed, match="takes no more rows"):
            point.append(rows_of(7), 7)
    may_go_on.set()
    for thread in threads:
        thread.join()
    for point in points:
        point.append(rows_of(7), 7)
    store.close()
    assert instances(path) == dict.fromkeys("abcd", 14)


class Twice(torch.nn.Module):
    """A layer runs before another one, and after it."""

    def __init__(self):
        super().__init__()
        self.twice, self.between = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
        self.last = torch.nn.Linear(3, 4)

    def forward(self, x):
        return self.last(self.twice(self.between(self.twice(x))))


def test_a_run_that_goes_on_after_another_of_its_model_still_knows_its_passes(path):
    model = Twice()

    def program():
        with (
            ts.Store(path, "x", commit_seconds=None) as store,
            ts.capture(model, ["twice", "between"], merge_calls=True, storage_path=store),
        ):
            with ts.capture(model, ["last"], storage_path=store):
                model(DATA)
            model(DATA)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        program()
    found = {layer.name: layer.state_count for layer in ts.Store(path).efficiency_layers}
    states = {"twice": 20, "between": 10, "last": 5}
    assert found == {f"{name}_post_states": number for name, number in states.items()}


def test_the_block_of_a_store_ends_all_broken_passes(both, path):
    """Those of points by hand and of runs, each its own."""

    def program():
        with ts.Store(path, "x", commit_seconds=None) as store:
            points = [new_point(store, name) for name in "ab"]
            for number in range(3):
                for point in points:
                    point.append(rows_of(7, seed=number), 7)
            with ts.capture(both.first, ["0", "2"], storage_path=store):
                both.first(DATA)
                points[0].append(rows_of(7, seed=9), 7)
                run_until_broken(both.first, 2, within=True)

    with pytest.raises(KeyboardInterrupt):
        program()
    assert instances(path) == {"a": 21, "b": 21, "0_post_states": 15, "2_post_states": 15}
    expected = np.concatenate([rows_of(7, seed=n) for n in range(3)])
    np.testing.assert_array_equal(ts.Store(path)["a"][:], expected)


def test_runs_in_step_are_committed_between_steps(both, path):
    """By rows or by time, when the first of them begins a pass."""
    layers = (
        torch.nn.ModuleDict({"first": both.first}),
        torch.nn.ModuleDict({"second": both.second}),
    )
    names = ["first.0", "first.2"], ["second.0", "second.2"]
    with (
        ts.Store(path, "x", commit_seconds=None, commit_rows=1) as store,
        ts.capture(layers[0], names[0], storage_path=store),
        ts.capture(layers[1], names[1], storage_path=store),
    ):
        for step in range(4):
            both.first(DATA)
            store.session.writer._background.wait()
            found = {layer.instance_count for layer in ts.Store(path).efficiency_layers}
            assert found <= {5 * step}
            both.second(DATA)


class Around(torch.nn.Module):
    """A model within another one, which has layers before it and after it."""

    def __init__(self):
        super().__init__()
        self.before, self.inner = torch.nn.Linear(3, 3), model_of(8, 16)
        self.after = torch.nn.Linear(16, 4)

    def forward(self, x):
        return self.after(self.inner(self.before(x)))


@pytest.mark.parametrize("alone", [0, 1, 3])
def test_commits_have_whole_passes_of_a_run_around_another(alone, path):
    """Also if the inner model was called first, by itself."""
    model = Around()
    with (
        ts.Store(path, "x", commit_seconds=None, commit_rows=1) as store,
        ts.capture(model, ["before", "after"], storage_path=store),
        ts.capture(model.inner, ["0", "2"], storage_path=store),
    ):
        for each in (*[model.inner] * alone, *[model] * 8):
            each(DATA)
            store.session.writer._background.wait()
            found = ts.Store(path).efficiency_layers
            assert len({layer.instance_count for layer in found if layer.name[0] in "ab"}) <= 1
    assert store.record.commits > 5


def test_a_run_whose_last_pass_has_failed_holds_up_no_commits_for_long(both, path):
    layers = torch.nn.ModuleDict({"second": both.second})
    with (
        ts.Store(path, "x", commit_seconds=None, commit_rows=1) as store,
        ts.capture(both.first, ["0", "2"], storage_path=store),
        ts.capture(layers, ["second.0"], storage_path=store),
    ):
        both.first(DATA)
        both.first[1].error = ValueError()
        with contextlib.suppress(ValueError):
            both.first(DATA)
        commits = store.record.commits
        for _ in range(100):
            both.second(DATA)
            store.session.writer._background.wait()
        assert store.record.commits >= commits + 4


@pytest.mark.parametrize("points", ["by hand", "at a model"])
def test_layers_that_run_on_after_close_are_committed_between_passes(points, both, path):
    with ts.Store(path, "x", commit_seconds=None, commit_rows=1) as store:
        if points == "by hand":
            layers = [new_point(store, name) for name in "ab"]
        else:
            ts.build_efficiency_model(both.first, "Linear", storage_path=store)
            layers = both.first.efficiency_layers
        for step in range(20):
            for point in layers if points == "by hand" else ():
                point.append(rows_of(5), 5)
            if points == "at a model":
                both.first(DATA)
            store.session.writer._background.wait()
            assert len({layer.instance_count for layer in ts.Store(path).efficiency_layers}) <= 1
            if step == 9:
                for point in layers:
                    point.close()
        assert {*instances(path).values()} == {5 * 19}


@pytest.mark.parametrize("within", [True, False])
def test_a_pass_that_breaks_after_the_layer_that_came_first_was_closed(within, path):
    """It runs on, but the passes of the others begin with another one."""

    def program():
        with ts.Store(path, "x", commit_seconds=None) as store:
            points = [new_point(store, name) for name in "abc"]
            for number in range(7):
                for point in points:
                    if number == 6 and within and point is points[2]:
                        raise KeyboardInterrupt
                    point.append(rows_of(5), 5)
                if number == 2:
                    points[0].close()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        program()
    others = 35 - 5 * within
    assert instances(path) == {"a": 35, "b": others, "c": others}


def test_a_run_is_committed_while_the_first_one_rests(both, path):
    layers = (
        torch.nn.ModuleDict({"first": both.first}),
        torch.nn.ModuleDict({"second": both.second}),
    )
    with (
        ts.Store(path, "x", commit_seconds=None, commit_rows=1) as store,
        ts.capture(layers[0], ["first.0"], storage_path=store),
        ts.capture(layers[1], ["second.0"], storage_path=store),
    ):
        for each in both.first, both.second, both.first:
            each(DATA)
        store.session.writer._background.wait()
        for _ in range(50):
            both.second(DATA)
        store.session.writer._background.wait()
        assert ts.Store(path)["second.0_post_states"].instance_count > 5
