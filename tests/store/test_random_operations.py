"""Random use of a store beside a model in memory: appends, commits, kills, readers."""

import contextlib
import errno
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import tensorstate_gpu as ts
from tensorstate_gpu import testing
from tensorstate_gpu.store.folder import FileSystemCalls, Folder
from tests.support.store_runs import small_chunks  # noqa: F401 a fixture

WIDTHS = {"a": 3, "b": 1, "c/d": 5}


class StoreMachine(RuleBasedStateMachine):
    """What is appended, and what of it is committed, is known here; the store must agree."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "run.zarr"
        self.random = np.random.default_rng(0)
        self.rows = {name: np.empty((0, width), np.uint8) for name, width in WIDTHS.items()}
        self.labels = {name: [] for name in WIDTHS}
        self.committed = 0  # instances
        self.readers = []
        self.open()

    def open(self):
        self.store = ts.Store(self.path, "a", commit_seconds=None)
        self.points = {name: ts.CapturePoint(name, self.store) for name in WIDTHS}
        for name, point in self.points.items():
            assert point.instance_count == self.committed
            point.declare(8 * WIDTHS[name])
        self.forget()

    def forget(self):
        """Of what was appended, keep what is committed."""
        for name in WIDTHS:
            self.rows[name] = self.rows[name][: self.committed]
            self.labels[name] = self.labels[name][: self.committed]

    @property
    def appended(self):
        return len(self.labels["a"])

    @rule(instances=st.integers(0, 70), distinct=st.integers(1, 256))
    def append(self, instances, distinct):
        for name, point in self.points.items():
            batch = self.random.integers(0, distinct, (instances, WIDTHS[name])).astype(np.uint8)
            labels = self.random.integers(-3, 3, instances)
            point.append(batch, instances, labels)
            self.rows[name] = np.concatenate([self.rows[name], batch])
            self.labels[name] += labels.tolist()

    @rule()
    def commit(self):
        self.store.commit()
        self.committed = self.appended

    @rule(share=st.floats(0, 1), reopened=st.booleans())
    def rewind(self, share, reopened):
        if reopened:
            self.close_and_go_on()
        self.readers = []  # of rows that are about to be forgotten
        self.committed = int(share * self.appended)
        self.store.rewind(self.committed)
        self.forget()

    @rule()
    def close_and_go_on(self):
        self.store.close()
        self.committed = self.appended
        self.open()

    @rule(operations=st.integers(0, 12))
    def die_in_a_commit(self, operations):
        class Dying(FileSystemCalls):
            left = operations

            def _count(self):
                self.left -= 1
                if self.left < 0:
                    raise OSError(errno.EIO, "dead")

            def write(self, path, parts):
                self._count()
                super().write(path, parts)

            def replace(self, source, target):
                self._count()
                super().replace(source, target)

            def unlink(self, path):
                self._count()
                super().unlink(path)

        Folder.system, living = Dying(), Folder.system
        with contextlib.suppress(OSError):
            self.store.commit()
        self.store.session.writer.life.abandon()
        Folder.system = living
        found = {layer.instance_count for layer in ts.Store(self.path).efficiency_layers}
        assert len(found) <= 1
        found = found.pop() if found else 0
        assert found in (self.committed, self.appended)
        self.committed = found
        self.open()

    @rule()
    def new_reader(self):
        self.readers = [*self.readers[-1:], (ts.Store(self.path), self.committed)]

    @rule(start=st.integers(-100, 300), stop=st.integers(-100, 300))
    def read_slices(self, start, stop):
        for reader, count in self.readers:  # each sees what was committed when it was opened
            for layer in reader.efficiency_layers:
                if layer.committed is not None:
                    whole = self.rows[layer.name][:count]
                    np.testing.assert_array_equal(layer[start:stop], whole[start:stop])

    @rule()
    def count(self):
        for reader, count in self.readers if self.committed else []:
            for layer in reader.efficiency_layers if count else []:
                packed, counts = testing.count(self.rows[layer.name][:count])
                histogram = ts.count_states(layer)
                np.testing.assert_array_equal(histogram.packed, packed)
                np.testing.assert_array_equal(histogram.counts, counts)
                by_label = {key: part.total for key, part in layer.counts_by().items()}
                labels, totals = np.unique(self.labels[layer.name][:count], return_counts=True)
                assert by_label == dict(zip(labels.tolist(), totals.tolist(), strict=True))

    @rule()
    def read_while_writing(self):
        for name, point in self.points.items() if self.appended else []:
            np.testing.assert_array_equal(point.raw_states, self.rows[name])

    @invariant()
    def the_ledger_holds(self):
        for point in self.points.values():
            assert point.instance_count == point.state_count == self.appended

    def teardown(self):
        self.store.close()
        shutil.rmtree(self.folder)


LONG = settings(
    max_examples=200,
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
)
TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(LONG, max_examples=30)


class LongStoreMachine(StoreMachine):
    """The same, for longer."""


TestStoreMachineForLong = pytest.mark.long(LongStoreMachine.TestCase)
TestStoreMachineForLong.settings = LONG
