"""Random use of one store by several runs of a model, beside plain lists of what it must have."""

import contextlib
import random
import sys

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu import testing
from tensorstate_gpu.store.folder import Folder
from tests.support.full_disk import Disk
from tests.support.torch_models import Breaking

SIZES = ((8, 16), (24, 8), (5, 9))
LAYERS = [f"tasks.{task}.{place}" for task in range(len(SIZES)) for place in (0, 2)]


class Tasks(torch.nn.Module):
    """Each pass is of one task, and runs the layers of that."""

    def __init__(self):
        super().__init__()
        linear = torch.nn.Linear
        self.tasks = torch.nn.ModuleList(
            torch.nn.Sequential(linear(3, wide), Breaking(), linear(wide, out))
            for wide, out in SIZES
        )

    def forward(self, task, x):
        return self.tasks[task](x)

    def rows(self, task, x):
        """What its layers capture of a pass."""
        linear = torch.nn.functional.linear  # hooks of layers do not see it
        first, _, second = self.tasks[task]
        with torch.no_grad():
            inner = linear(x, first.weight, first.bias)
            each = inner, linear(inner, second.weight, second.bias)
        return {
            f"tasks.{task}.{place}": [bytes(row) for row in ts.compress_states(a.numpy() > 0)]
            for place, a in zip((0, 2), each, strict=True)
        }


@pytest.fixture
def disk(monkeypatch, chunks_of):
    chunks_of(64)  # a few rows: files are written within passes
    monkeypatch.setattr(Folder, "system", Disk())
    return Folder.system


class Session:
    """A store that is open, the runs in it, and the rows that each layer must have.

    ``disk``: fails now and then, if it is given.
    """

    def __init__(self, path, seed, rows, keep, disk):
        self.random = random.Random(seed)
        self.path, self.rows, self.keep, self.disk = path, rows, keep, disk
        commit_rows = self.random.choice([None, 3, 40])
        self.store = ts.Store(path, "a", commit_seconds=None, commit_rows=commit_rows)
        self.resumed = [name.removesuffix("_post_states") for name in self.store]
        self.model, self.runs = Tasks(), []

    def names(self, run):
        return [name.removesuffix("_post_states") for name in run]

    def captured(self):
        return {name for _, run in self.runs for name in self.names(run)}

    def start(self):
        free = [name for name in LAYERS if name not in self.begun]
        if self.resumed:
            names = [] if self.begun else self.resumed
        else:
            names = [name for name in free if self.random.random() < 0.6]
        if names:
            block = ts.capture(self.model, names, storage_path=self.store, keep=self.keep)
            self.runs.append((block, block.__enter__()))
            self.begun.update(names)
            for name in names:
                self.rows.setdefault(name, [])

    def run_pass(self, error=None, unless_of=()):
        task, inputs = self.random.randrange(3), self.random.choice([1, 2, 7, 33])
        x = torch.randn(inputs, 3)
        breaking = self.model.tasks[task][1]
        breaking.error = error
        kept = self.captured().difference(unless_of)
        try:
            self.model(task, x)
        finally:
            breaking.error = None
            for name, rows in self.model.rows(task, x).items():
                if name in kept and (error is None or name.endswith(".0")):
                    self.rows[name] += rows

    def end(self, error=None):
        block, run = self.runs.pop()
        names = self.names(run)
        kind = None if error is None else type(error)
        block.__exit__(kind, error, None)
        self.check(run, names)

    def break_run(self, error=KeyboardInterrupt):
        """A pass breaks the run that began last, and is taken back if a layer has not seen it."""
        before = self.copied_rows()
        with contextlib.suppress(error):
            self.run_pass(error())
        every = self.captured()
        if every != {name for name in every if self.rows[name] != before[name]}:
            self.rows.update(before)
        self.end(KeyboardInterrupt())
        for _, run in self.runs:
            self.check(run, self.names(run))

    def copied_rows(self):
        return {name: [*rows] for name, rows in self.rows.items()}

    def fill_disk(self):
        """Passes until the disk is full, which ends the run that began last; then it has room."""
        self.disk.room = self.random.randrange(12)
        try:
            for _ in range(6):
                before = self.copied_rows()
                self.run_pass()
        except OSError as error:
            self.rows.update(before)  # where layers have seen it, it is taken back
            block, _ = self.runs.pop()
            self.disk.room = self.random.choice([0, 2, sys.maxsize])
            with contextlib.suppress(OSError):
                block.__exit__(OSError, error, None)
            self.check_committed()
        self.disk.room = sys.maxsize
        self.store.commit()
        self.check_committed()

    def check_committed(self):
        """Of each layer, the first rows are committed."""
        store = ts.Store(self.path)
        assert store.verify().good
        for name, layer in store.items() if self.keep == "states" else ():
            rows = self.rows[name.removesuffix("_post_states")]
            assert [bytes(row) for row in layer[:]] == rows[: len(layer)]

    def pause(self):
        _, run = self.random.choice(self.runs)
        with run.paused():
            self.run_pass(unless_of=self.names(run))

    def reset(self):
        _, run = self.random.choice(self.runs)
        run.reset()
        self.rows.update({name: [] for name in self.names(run)})

    def fail_once(self):
        with contextlib.suppress(ValueError):
            self.run_pass(ValueError())
        self.random.choice([self.run_pass, self.break_run])()

    def check(self, run, names):
        for name in names:
            check(run[f"{name}_post_states"], self.rows[name])

    def use(self, steps):
        self.begun = set()
        operations = {
            self.run_pass: 10,
            self.fail_once: 1,
            self.start: 2,
            self.end: 0.7,
            lambda: self.end(KeyboardInterrupt()): 0.5,
            self.break_run: 0.7,
            lambda: self.break_run(ValueError): 0.3,
            self.pause: 1,
            self.reset: 0.3,
            self.store.commit: 1,
            self.fill_disk: self.disk is not None,
        }
        for _ in range(steps):
            (operation,) = self.random.choices([*operations], [*operations.values()])
            (operation if self.runs else self.start)()
        while self.runs:
            self.end()
        self.store.close()


def check(layer, rows):
    assert layer.state_count == len(rows)
    if rows:
        packed, counts = testing.count(np.array([[*row] for row in rows], np.uint8))
        np.testing.assert_array_equal(layer.histogram().packed, packed)
        np.testing.assert_array_equal(layer.histogram().counts, counts)


def use_randomly(path, seed, disk=None):
    torch.manual_seed(seed)
    rows, keep = {}, ("states", "counts")[seed % 2]
    for session in range(3):
        Session(path, f"{seed} {session}", rows, keep, disk).use(steps=25)
        store = ts.Store(path)
        assert store.verify().good
        assert not {f"{name}_post_states" for name in rows if rows[name]}.difference(store)
        for name, layer in store.items():
            check(layer, rows[name.removesuffix("_post_states")])
        rows = {name: each for name, each in rows.items() if f"{name}_post_states" in store}


@pytest.mark.parametrize("seed", range(10))
def test_random_runs(seed, tmp_path):
    use_randomly(tmp_path / "run.zarr", seed)


@pytest.mark.parametrize("seed", range(10))
def test_random_runs_on_a_disk_that_is_full_at_times(seed, tmp_path, disk):
    use_randomly(tmp_path / "run.zarr", seed, disk)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 120))
def test_many_random_runs(seed, tmp_path):
    use_randomly(tmp_path / "run.zarr", seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 120))
def test_many_random_runs_on_a_disk_that_is_full_at_times(seed, tmp_path, disk):
    use_randomly(tmp_path / "run.zarr", seed, disk)
