"""Disks that are full in the middle of a pass: nothing of the half pass is ever committed."""

import shutil
from itertools import product

import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu.store.folder import Folder
from tests.support.full_disk import Disk
from tests.support.samples import sample, sweep

BATCHES = torch.randn(6, 5, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def disk_with(monkeypatch, chunks_of):
    """Sets for how many more files there is room."""
    chunks_of(40)  # a few rows
    return lambda *room: monkeypatch.setattr(Folder, "system", Disk(*room))


class Capture:
    """Passes whose errors come in the middle: each layer waits until what can be is written."""

    def __init__(self, path, keep, **options):
        self.path, self.options = path, {"attach_to": "Linear", "keep": keep, **options}
        self.whole = 0  # passes
        torch.manual_seed(0)
        linear = torch.nn.Linear
        self.model = torch.nn.Sequential(linear(6, 16), linear(16, 40), linear(40, 8))

    def run(self, store):
        self.store = store
        background = store.session.writer._background

        def rest(*_):
            with background._mutex:
                assert background._changed.wait_for(is_at_rest, 600)

        def is_at_rest():
            return background._stopped or not (background._queue or background._running)

        for layer in self.model:
            layer.register_forward_pre_hook(rest)
        for batch in BATCHES[self.whole :]:
            self.model(batch)
            self.whole += 1

    def of_a_path(self):
        with ts.capture(self.model, storage_path=self.path, **self.options) as run:
            self.run(run.efficiency_layers[0].intake.sink.store)

    def of_a_store(self, mode="x"):
        store = ts.Store(self.path, mode, commit_rows=1)
        with ts.capture(self.model, storage_path=store, **self.options) as run:
            self.whole = run.instance_count // 5
            self.run(store)
        store.close()

    def of_two_blocks(self):
        with (
            ts.Store(self.path, "x", commit_rows=20) as store,
            ts.capture(self.model, storage_path=store, **self.options),
        ):
            self.run(store)

    def built(self):
        with ts.Store(self.path, "x", commit_seconds=None) as store:
            ts.build_efficiency_model(self.model, storage_path=store, **self.options)
            self.run(store)


def check(path, passes):
    """A store has the first passes, whole, and nothing else."""
    store, capture = ts.Store(path), Capture(path, "states")
    assert store.verify().good
    with ts.capture(capture.model, "Linear") as expected:
        capture.model(BATCHES[:passes].flatten(0, 1))
    assert {layer.instance_count for layer in store.values()} <= {5 * passes}
    for layer in store.values():
        assert layer.histogram() == expected[layer.name].histogram()


def close(capture):
    capture.store.close()


def commit_and_close(capture):
    if capture.store.session.writer.life.is_open():
        capture.store.commit()
        check_whole(capture.store)
    capture.store.close()


def check_whole(store):
    assert len({layer.instance_count for layer in store.values()}) <= 1
    assert store.verify().good


def at_exit(capture):
    capture.store.session.writer.life.close(at_exit=True)


def opened_anew(capture):
    capture.store = capture.model = None  # the writer closes it, as nothing refers to it
    ts.Store(capture.path, "a").close()


ENDS = [close, commit_and_close, at_exit, opened_anew]


@pytest.mark.parametrize("how", ["of_a_path", "of_a_store", "of_two_blocks", "built"])
@pytest.mark.parametrize("keep", ["states", "counts"])
@sweep
def test_a_half_pass_is_taken_back_once_the_disk_has_room(every, keep, how, disk_with, quick_path):
    told, cases = 0, [*product(range(6, 90), ENDS)]
    for room, end in sample(cases, 8, every, seed=f"{keep} {how}"):
        disk_with(room)
        capture = Capture(quick_path, keep)
        try:
            getattr(capture, how)()
        except OSError:
            told += 1
        check_whole(ts.Store(quick_path))
        disk_with()
        end(capture)
        check(quick_path, capture.whole)
        Capture(quick_path, keep).of_a_store("a")
        check(quick_path, len(BATCHES))
        shutil.rmtree(quick_path)
    assert told
