"""RunWriter: writes the batches of all layers of a run, and commits them together."""

import contextlib
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from tensorstate_gpu._layers.broken_passes import PassClock
from tensorstate_gpu._layers.layer_facts import LayerFacts
from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu.store.batch_source import BatchSource
from tensorstate_gpu.store.chunks import start_threads
from tensorstate_gpu.store.closing_at_exit import register_for_exit
from tensorstate_gpu.store.commit_record import LayerRecord, Record
from tensorstate_gpu.store.committer import CommitSnapshot, Committer
from tensorstate_gpu.store.counts_writer import CountsWriter
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.layer_writer import LayerWriter
from tensorstate_gpu.store.listed_layers import ListedLayers
from tensorstate_gpu.store.options import WriterOptions
from tensorstate_gpu.store.rewinding import delete_forgotten, position_in, rewound
from tensorstate_gpu.store.run_passes import PassesByRun, RunPasses
from tensorstate_gpu.store.shared_writing import SharedWriting
from tensorstate_gpu.store.writer_life import WriterLife

Writer = TypeVar("Writer", LayerWriter, CountsWriter)


class RunWriter(SharedWriting):
    """Writes the rows of all layers of a run, and commits them together.

    Background threads write full chunks as soon as they are full (several at the same time if the
    storage benefits from it), and the commits between them.

    A commit happens automatically after ``commit_rows`` rows or ``commit_seconds`` seconds, between
    two forward passes. Each run has passes of its own; see PassStarts.
    """

    def __init__(
        self,
        files: Files,
        record: Record,
        was_closed: bool | None,
        options: WriterOptions,
    ) -> None:
        super().__init__(files, options, self._commit_when_idle)
        self._committer = Committer(files, record, was_closed)
        self._names = ListedLayers(record.layers, record.captures)
        self._passes = PassesByRun(self._layers)
        self._removals: Counter[str] = Counter()  # of layers, by name: those that are not done yet
        self._sources: weakref.WeakValueDictionary[str, BatchSource] = weakref.WeakValueDictionary()
        self._queued_commits = 0
        self.life = WriterLife(files, self._background, self)
        start_threads()
        register_for_exit(self.life)

    @property
    def record(self) -> Record:
        """The last published record."""
        return self._committer.record

    # ---- layers --------------------------------------------------------------------------------

    def claim(self, name: str, source: BatchSource, run: object = None) -> None:
        """List a layer in the next commit, even if it has no rows yet.

        ``run``: whose passes it runs in; None for a capture point that belongs to no run.
        """
        with deferred_interrupts(), self._lock:
            passes = self._passes.add(name, run)
            passes.follow(name, source.clock)
            self._names.claim(name, None if run is None else passes)
            self._sources[name] = source

    def follow_passes(self, name: str, clock: PassClock | None) -> None:
        """Let the clock of its model tell when passes begin in which a layer runs."""
        with deferred_interrupts(), self._lock:
            self._passes.of_layer(name).follow(name, clock)

    def finish(self, names: Collection[str]) -> None:
        """Leave layers as they are: what breaks from now on is a pass of others."""
        with deferred_interrupts(), self._lock:
            self._passes.finish(names)

    def release(self, name: str) -> None:
        """List a layer no more, of which nothing was captured. Its files, if any, are deleted."""
        with deferred_interrupts(), self._lock:
            if name not in self._layers:
                self._forget(name)
                self._names.forget(name)
            elif self.life.is_open():  # a pass that broke may have written files
                self.remove([name])

    def check_folder_of(self, name: str) -> None:
        """Raise ValueError if a layer would share its folder with one of another name."""
        self._names.check_folder_of(name, self.files)

    def open_layer(
        self,
        kind: type[Writer],
        name: str,
        neurons: int,
        capture: dict[str, Any],
        committed: LayerRecord | None,
        facts: Callable[[], LayerFacts],
    ) -> Writer:
        """Return the writer of a layer, of this kind. ``committed``: what already is of it."""
        with deferred_interrupts(), self._lock:
            layer = kind(self, name, neurons, capture, committed, facts)
            self._background.start()
            self._names.add(name)
            self._layers[name] = layer
            return layer

    @property
    def layers(self) -> int:
        """The number of layers: they share the memory for counts."""
        return len(self._names)

    def committed(self, name: str) -> LayerRecord | None:
        """Return what is committed of a layer, and is not about to be deleted."""
        with deferred_interrupts(), self._lock:
            return None if self._removals[name] else self.record.layers.get(name)

    def remove(self, names: Iterable[str]) -> Callable[[], None]:
        """Delete layers and all their files. Return what waits for that, and raises its error.

        The layers can be written anew before that: what is deleted is what there was. If it fails,
        it is tried again before anything else is written. Raises StoreClosed like
        life.check_open().
        """
        if self.life.is_deleted:
            return _no_wait
        self.life.check_open()
        with deferred_interrupts(), self._lock:
            written = [name for name in names if self._forget(name)]
            if written:
                self._removals.update(written)
                self._background.submit(lambda: self._delete(written), exclusive=True)
            return self._background.wait if any(self._removals.values()) else _no_wait

    def _forget(self, name: str) -> bool:
        """List a layer in no further commit. Return whether there may be files of it."""
        self._names.remove(name)
        self._passes.remove([name])
        self._take_back_no_more([name])
        return self._layers.pop(name, None) is not None or self.committed(name) is not None

    def _delete(self, names: Sequence[str]) -> None:
        self._committer.delete_layers(names)
        with self._lock:
            self._removals.subtract(names)

    # ---- batches -------------------------------------------------------------------------------

    def before_batch(self, name: str) -> None:
        """Prepare for a batch of a layer: wait for queue space, and commit if it is time to.

        Raises the error of a background thread, if there was one since the last call.
        """
        self.check_writable()
        passes = self._passes.of_layer(name)
        if not passes.starts.begins_with(name, len(passes.names)):
            return
        self._mark_pass_end(passes)
        is_due = self._clock.is_due() and not self._queued_commits
        if self._passes.is_turn(passes, is_due=is_due) and is_due:
            self.commit(wait=False)

    def _mark_pass_end(self, passes: RunPasses) -> None:
        with deferred_interrupts(), self._lock:
            if passes.names.isdisjoint(self._broken):
                passes.mark_end()

    def discard_broken_pass(self, *run: object) -> bool:
        """Discard the batches of a pass that an exception ended. Return whether there were any.

        ``run``: whose pass; without it, of all runs that are not finished. None are discarded if it
        ran beside another, whose batches are among those since the mark. If that raises an error,
        as on a full disk, they are discarded before anything else of these layers is committed.
        """
        if not self.life.is_open():
            return False
        broken = [each for each in self._passes.of_runs(*run) if each.are_broken(self._sources)]
        with deferred_interrupts(), self._lock:
            for passes in broken:
                self._broken = {**dict.fromkeys(passes.names, object()), **self._broken}
        self.settle()
        return bool(broken)

    def settle(self) -> None:
        """Store all batches that are in transit from a device, and take broken passes back."""
        self.drain_all()
        if not (broken := self._broken):
            return
        self._background.wait()
        with deferred_interrupts(), self._lock:
            # Another thread may have taken some back, and others may have broken since then.
            names = [name for name in broken if self._broken.get(name) is broken[name]]
            for layer in filter(None, map(self._layers.get, names)):
                layer.rewind_pass()
            self._take_back_no_more(names)

    def _take_back_no_more(self, names: Collection[str]) -> None:
        self._broken = {name: each for name, each in self._broken.items() if name not in names}

    def rewind(self, instances: int | Mapping[str, int]) -> None:
        """Commit, and forget all but the first ``instances`` of each layer; see Store.rewind()."""
        while True:
            self.life.check_open()
            self.commit()
            with deferred_interrupts(), self._lock:
                if not (self._clock.rows or self._queued_commits):  # of another thread, since then
                    self._rewind(rewound(self.files, self.record, instances))
                    return

    def _rewind(self, after: Record) -> None:
        before = self.record
        self._committer.rewind(after)
        try:
            for name, layer in self._layers.items():
                layer.rewind(position_in(after, name))
        except BaseException:
            self.life.stop()  # no row is lost: all are committed, or forgotten
            raise
        with contextlib.suppress(OSError):  # verify() tells of what is left
            delete_forgotten(self.files, before, after)

    # ---- commits -------------------------------------------------------------------------------

    def wait_for_pending(self) -> None:
        """Wait for batches that a framework is still computing."""
        for source in list(self._sources.values()):
            source.wait_for_pending()

    def commit_between_passes(self) -> None:
        """Commit at the user's request: between two forward passes."""
        for passes in self._passes.of_runs():
            self._mark_pass_end(passes)
        self.commit()

    def commit(self, *, wait: bool = True) -> None:
        """Publish all batches so far; with ``wait``, return when they are stored.

        Raises OSError or another exception if that fails: earlier commits stay intact, and the next
        call tries again.
        """
        if not self.life.is_open():
            return
        self.settle()
        self.submit_commit()
        if wait:
            self._background.wait()

    def drain_all(self) -> None:
        """Store all batches that are in transit from a device."""
        for layer in list(self._layers.values()):
            layer.drain()

    def submit_commit(self, *, ends: bool | None = None) -> None:
        """Queue a commit of all batches so far for the background threads.

        ``ends``: for the last one, whether the writer ends properly.
        """
        # Interrupted in between, a part of a commit would be queued, and run beside the next one.
        with deferred_interrupts(), self._lock:
            snapshot = self._take_snapshot(ends)
            self._queued_commits += 1
            self._committer.submit(snapshot, self._background.submit, self._on_published)

    def _on_published(self) -> None:
        with self._lock:
            self._queued_commits -= 1
        self.progress.restart()

    def _take_snapshot(self, ends: bool | None) -> CommitSnapshot:
        with self._lock:
            self._clock.mark_committed()
            layers = {
                name: (layer, layer.snapshot())
                for name, layer in self._layers.items()
                if name not in self._broken
            }
            return CommitSnapshot(self._names.in_order(), layers, self._names.captures(), ends)

    def _commit_when_idle(self) -> None:
        with self._lock:
            runs = self._passes.of_runs()
            if self._clock.is_idle() and all(each.are_stored_whole() for each in runs):
                self.submit_commit()

    def flush(self) -> None:
        """Commit. Raises StoreClosed if rows are lost because the store was deleted."""
        if self.life.is_own_process and not self.life.is_deleted_without_loss():
            self.commit()

    # ---- called when the writer closes ---------------------------------------------------------

    def uncommitted_rows(self) -> int:
        """Return the number of rows added since the last commit."""
        return self._clock.rows

    def inputs(self) -> tuple[int, int]:
        """Return how many inputs are committed, and how many were captured, as far as is known."""
        committed = (layer.instances or 0 for layer in self.record.layers.values() if layer)
        captured = (layer.instance_count for layer in list(self._layers.values()))
        return max(committed, default=0), max(captured, default=0)

    def delete_replaced(self) -> None:
        """Delete files that commits have replaced, and which readers might still have needed."""
        for layer in list(self._layers.values()):
            layer.delete_replaced()


def _no_wait() -> None:
    """Nothing to wait for."""
