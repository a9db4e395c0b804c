"""A small capture into a store, and disks that stop, fail or forget: for the crash tests.

Two layers and labels, in chunks of a few rows; the instances of one differ in their number of
states. Two programs, of which the second goes on where the first ended. Needs no torch, so that
hundreds of runs fit into seconds.
"""

import json
import os
import shutil
import threading
from functools import partial
from itertools import accumulate, pairwise

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._layers import chunked_buffer
from tensorstate_gpu.store import ledger_array
from tensorstate_gpu.store.folder import FileSystemCalls, Folder

CHUNK_BYTES = 96  # 32 rows of conv, 48 of dense, 12 labels
LEDGER_CHUNK_BYTES = 32  # 2 batches


@pytest.fixture(scope="module", autouse=True)
def small_chunks():
    """For the tests of a module that imports it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunked_buffer, "CHUNK_BYTES", CHUNK_BYTES)
        patch.setattr(ledger_array, "CHUNK_BYTES", LEDGER_CHUNK_BYTES)
        yield


@pytest.fixture(autouse=True)
def system_as_it_was(monkeypatch):
    """For the tests of a module that imports it: the calls of Folder are put back afterwards."""
    monkeypatch.setattr(Folder, "system", Folder.system)


INSTANCES = 41
_random = np.random.default_rng(0)
# States of each instance. Those of "dense" differ from batch to batch; see PROGRAMS.
LENGTHS = {
    "conv": np.full(INSTANCES, 4),
    "dense": np.repeat([2, 3, 1, 1, 2, 0], [5, 7, 9, 3, 8, 9]),
}
NEURONS = {"conv": 24, "dense": 16}
STREAMS = {
    name: _random.integers(0, most, (LENGTHS[name].sum(), NEURONS[name] // 8), dtype=np.uint8)
    for name, most in (("conv", 256), ("dense", 4))
}
LABELS = [f"class {i % 3}" for i in range(INSTANCES)]
# Instances of a batch, or what is done between batches.
PROGRAMS = [
    [5, 7, "commit", 9, "commit", "commit", 3],
    [8, "commit", 9],
]


def rows_of_layer(name, first=0, last=INSTANCES):
    """The rows of some instances of a layer."""
    lengths = LENGTHS[name]
    return STREAMS[name][lengths[:first].sum() : lengths[:last].sum()]


def boundaries():
    """How many instances each published commit has, in order: the first is a new store."""
    done, ends = 0, []
    for program in PROGRAMS:
        ends.append(done)  # opening a store publishes that a writer is at work
        for step in [*program, "commit"]:  # close() commits
            if step != "commit":
                done += step
            elif done != ends[-1]:
                ends.append(done)
    assert done == INSTANCES
    return ends


class Capture:
    """The programs, from wherever the store is: a new one, or one that was cut off."""

    def __init__(
        self, path, durability="process", again=0, returned=lambda done: None, keep="states"
    ):
        self.path, self.durability, self.keep = path, durability, keep
        self.again = again  # how often a step that raises OSError is tried again
        self.returned = returned  # told how many instances a commit that returned has
        self.failed = lambda: None

    def run(self):
        for program in PROGRAMS:
            self.program(program)

    def program(self, program):
        earlier = PROGRAMS[: PROGRAMS.index(program)]
        start = sum(step for before in earlier for step in before if step != "commit")
        store = self.insist(
            lambda: ts.Store(self.path, "a", durability=self.durability, commit_seconds=None)
        )
        points = [ts.CapturePoint(name, store, keep=self.keep) for name in NEURONS]
        counts = {point.instance_count for point in points}
        assert len(counts) == 1, counts
        done = counts.pop()
        for point in points:
            point.declare(NEURONS[point.name], 1)
        for step in program:
            if step == "commit":
                self.insist(store.commit)
                self.returned(start)
                continue
            first, start = start, start + step
            if start <= done:
                continue  # committed before a crash
            assert first >= done, "a batch was committed in part"
            for point in points:
                self.insist(partial(self.batch, point, first, start))
        self.insist(store.close)
        self.returned(start)

    def batch(self, point, first, last):
        rows = rows_of_layer(point.name, first, last)
        point.append(rows, last - first, LABELS[first:last])

    def insist(self, step):
        while True:
            try:
                return step()
            except OSError:
                if not self.again:
                    raise
                self.again -= 1
                self.failed()


def number_of_operations(path, **options):
    """How many operations reach the disk while a capture with these options runs."""
    system = CountingSystem(lambda *_: None).install(path)
    Capture(path, **options).run()
    shutil.rmtree(path)
    return system.number


def run_while_operations_fail(path, numbers, code, spared, **options):
    """Run a capture whose operations of these numbers fail, but for those of ``spared`` kinds.

    Each failure is told, the committed rows are whole at that time, and the capture goes on.
    """
    told, kept, failed_ones = [], [], set()

    def before(number, operation, file):
        failed_ones.discard((operation, file))
        if number in numbers and operation not in spared:
            failed_ones.add((operation, file))
            raise OSError(code, os.strerror(code), str(file))

    def failed():
        told.append(True)
        found = committed_instances(path)  # while the capture stands still
        assert found in boundaries()
        assert found >= (kept[-1] if kept else 0)

    CountingSystem(before).install(path)
    capture = Capture(path, again=20, returned=kept.append, **options)
    capture.failed = failed
    capture.run()
    check_finished(path)
    # A commit may have tried again before anybody was told.
    assert told or not failed_ones, f"nobody was told of operation {numbers}: {failed_ones}"


def committed_instances(path):
    """Instances in a store whose rows, labels and ledger are exactly those of the streams."""
    if not (path / "zarr.json").exists():
        return 0
    store = ts.Store(path)
    found = {layer.instance_count for layer in store.efficiency_layers}
    assert len(found) <= 1, f"layers of different batches: {found}"
    count = found.pop() if found else 0
    for layer in store.efficiency_layers if count else []:
        rows = rows_of_layer(layer.name, 0, count)
        if layer.committed.keep == "counts":
            assert_counts_of(layer, count)
            continue
        np.testing.assert_array_equal(layer[:], rows)
        assert layer.labels().tolist() == LABELS[:count]
        batches = layer.snapshot()[1].batches
        lengths = np.repeat([each for _, each in batches], [number for number, _ in batches])
        assert lengths.tolist() == LENGTHS[layer.name][:count].tolist()
        shape = json.loads((path / layer.name / "zarr.json").read_text())["shape"]
        assert shape[0] <= len(rows), "zarr clients see more than is committed"
    return count


def assert_counts_of(layer, count):
    """A layer that keeps counts has exactly those of the first instances, also by label."""
    lengths = LENGTHS[layer.name][:count]
    rows, labels = rows_of_layer(layer.name, 0, count), np.repeat(LABELS[:count], lengths)
    assert layer.histogram() == ts.count_states(rows, layer.neurons)
    assert layer.counts_by() == {
        label: ts.count_states(rows[labels == label], layer.neurons)
        for label in sorted(set(LABELS[:count]))
    }
    assert layer.histogram().total == layer.state_count == lengths.sum()


def check_finished(path):
    """A store holds everything, and counts it as an uninterrupted capture does."""
    assert committed_instances(path) == INSTANCES
    for layer in ts.Store(path).efficiency_layers:
        counts = ts.count_states(rows_of_layer(layer.name), layer.neurons)
        assert ts.count_states(layer) == counts


REWOUND = 12  # instances, of the first two batches


def rewind(path, durability="process"):
    """Forget all but the first instances of a store."""
    with ts.Store(path, "a", durability=durability, commit_seconds=None) as store:
        store.rewind(REWOUND)


def save(path, durability="process", keep="states"):
    """Capture everything in memory, and save it as a new store."""
    points = [ts.CapturePoint(name, keep=keep) for name in NEURONS]
    for point in points:
        point.declare(NEURONS[point.name], 1)
        steps = [step for program in PROGRAMS for step in program if step != "commit"]
        for first, last in pairwise([0, *accumulate(steps)]):
            rows = rows_of_layer(point.name, first, last)
            point.append(rows, last - first, LABELS[first:last])
    ts.Run(points).save(path)


def count_to(path, durability="process", *, source):
    """Write the counts of a layer of a store."""
    ts.Store(source)["conv"].histogram(to=path)


PARTS = 2


def count_in_parts(path, durability="process", *, source):
    """Count parts of a layer, and merge ranges of them, as tasks do that are run again."""
    layer = ts.Store(source)["conv"]
    parts = [path / f"part-{number}" for number in range(PARTS)]
    for number, part in enumerate(parts):
        ts.count_part(layer, number, PARTS, part)
    for number in range(PARTS):
        ts.merge_range(parts, number, PARTS, path / "whole")


def check_counts(path):
    """All states of the layer are counted."""
    counts = ts.store.open_counts(path).load()
    assert counts == ts.count_states(rows_of_layer("conv"), NEURONS["conv"])


class CountingSystem(FileSystemCalls):
    """Calls ``before(number, operation, path)`` at each operation that changes the disk."""

    def __init__(self, before):
        self.number = 0
        self._numbering = threading.Lock()
        self.before = before
        self.published = lambda: None

    def _at(self, operation, path):
        with self._numbering:
            self.number += 1
            number = self.number
        self.before(number, operation, path)

    def write(self, path, parts):
        data = b"".join(parts)
        self._at("write", path)
        super().write(path, [data[: len(data) // 2]])
        self._at("write on", path)
        super().write(path, [data])

    def fsync(self, path):
        self._at("fsync", path)
        super().fsync(path)

    def replace(self, source, target):
        self._at("replace", target)
        super().replace(source, target)
        if target.name == "zarr.json" and source.parent == target.parent == self.root:
            self.published()

    def mkdir(self, path):
        self._at("mkdir", path)
        super().mkdir(path)

    def unlink(self, path):
        self._at("unlink", path)
        super().unlink(path)

    def rmdir(self, path):
        self._at("rmdir", path)
        super().rmdir(path)

    def install(self, root):
        self.root = root
        Folder.system = self
        return self
