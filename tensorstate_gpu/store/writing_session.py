"""WritingSession: a store as capture points use it; claims layer names."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tensorstate_gpu._layers.broken_passes import PassClock
from tensorstate_gpu._layers.layer_facts import LayerFacts
from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu.store.batch_source import BatchSource
from tensorstate_gpu.store.commit_record import LayerRecord, Record
from tensorstate_gpu.store.counts_writer import CountsWriter
from tensorstate_gpu.store.documents import KEY
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.keys import state_key
from tensorstate_gpu.store.layer_writer import LayerWriter
from tensorstate_gpu.store.opened_record import check_same_capture, check_same_keep
from tensorstate_gpu.store.run_writer import RunWriter


class WritingSession:
    """A store that is open for writing, as capture points use it.

    ``opened_record``: the record when the store was opened. ``created_from_path``: the store was
    created for the capture points of a path, not opened by the user.
    """

    def __init__(self, files: Files, opened_record: Record, writer: RunWriter) -> None:
        self._files, self._opened_record, self.writer = files, opened_record, writer
        self.created_from_path = False
        self._broken = False  # an exception has ended the block of a capture
        self._claimed: set[str] = set()
        self._unfinished: set[str] = set()  # of the claimed names
        self._lock = ForkSafeLock()

    def claim(
        self,
        name: str,
        capture: dict[str, Any],
        source: BatchSource,
        *,
        may_be_new: bool = False,
        keep: str = "states",
        groups: int | None = None,
        run: object = None,
    ) -> LayerRecord | None:
        """Reserve a layer's name for a capture point, and return what is already committed of it.

        ``keep``, ``groups``: options of the capture. A layer that keeps counts goes on with these.
        ``may_be_new``: whether a store that is resumed need not have the layer: a later call of a
        layer appears while the model runs, whose pass must not fail for it. ``run``: whose passes
        it runs in, if it belongs to one.

        Raises ValueError if the name is claimed already, if a store that is resumed lacks it, or if
        the options differ from those committed.
        """
        self.writer.life.check_open()
        with self._lock:
            if name in self._claimed:
                raise ValueError(
                    f"{self._files} already has states of {name!r}, of another capture point of "
                    "this program; once it is closed, Store(path, mode='a') goes on with them"
                )
            known = self._opened_record.layers
            if known and name not in known and not may_be_new:
                raise ValueError(f"{self._files} holds the layers {list(known)}, and not {name!r}")
            committed = self.writer.committed(name)
            if committed is not None:
                check_same_capture(f"{self._files}: {name}", capture, committed.capture)
                check_same_keep(f"{self._files}: {name}", keep, groups, committed)
            self._files.check_key(state_key(name))
            self.writer.check_folder_of(name)
            self._claimed.add(name)
            self._unfinished.add(name)
            self.writer.claim(name, source, run)
            return committed

    def holds(self, name: str) -> bool:
        """Return whether a layer was committed before the store was opened."""
        return name in self._opened_record.layers

    def check_all_claimed(self) -> None:
        """Raise ValueError if a capture goes on without layers that the store has of it."""
        known = self._opened_record
        begun = [
            each
            for each in known.captures or [tuple(known.layers)]
            if not self._claimed.isdisjoint(each)
        ]
        names = {name for each in begun for name in each} - self._claimed
        if missing := [name for name in known.layers if name in names]:
            raise ValueError(f"{self._files} holds {missing} too, which are not captured now")

    def earlier_facts(self, name: str) -> LayerFacts | None:
        """Return what was committed of a layer besides its states before the store was opened."""
        return self._opened_record.facts_of(name)

    def open_layer(
        self,
        name: str,
        neurons: int,
        capture: dict[str, Any],
        committed: LayerRecord | None = None,
        facts: Callable[[], LayerFacts] = LayerFacts,
    ) -> LayerWriter:
        """Return the writer of a claimed layer. ``facts``: returns what a commit says of it."""
        return self.writer.open_layer(LayerWriter, name, neurons, capture, committed, facts)

    def open_counts(
        self,
        name: str,
        neurons: int,
        capture: dict[str, Any],
        committed: LayerRecord | None,
        facts: Callable[[], LayerFacts],
    ) -> CountsWriter:
        """Return the writer of a claimed layer that keeps counts."""
        return self.writer.open_layer(CountsWriter, name, neurons, capture, committed, facts)

    def follow_passes(self, name: str, clock: PassClock | None) -> None:
        """Let the clock of its model tell when passes begin in which a layer runs."""
        self.writer.follow_passes(name, clock)

    def before_batch(self, name: str) -> None:
        """Wait for queue space, and commit if it is time to. Raises background errors."""
        self.writer.before_batch(name)

    def remove(self, *names: str) -> Callable[[], None]:
        """Delete the states of layers, by a single commit, and release their names.

        Return what waits for that; see RunWriter.remove().
        """
        self._forget(names)
        return self.writer.remove(names)

    def release_name(self, name: str) -> None:
        """Release a name without captured states. Deletes an unused store made from a path."""
        self._forget([name])
        if not self.holds(name):
            self.writer.release(name)
        if not self._claimed and not self._opened_record.layers and self.created_from_path:
            self.writer.life.abandon()
            self._files.delete(KEY)
            self._files.delete_created_folders()

    def _forget(self, names: Iterable[str]) -> None:
        with self._lock:
            self._claimed.difference_update(names)
            self._unfinished.difference_update(names)

    def discard_broken_pass(self, *run: object) -> bool:
        """Discard the batches of a pass that an exception ended. Return whether there were any.

        ``run``: whose pass; without it, of all runs that are not finished.
        With the store of a path, the exception ends the whole run: its record then does not say
        that it was closed. A Store of the user may go on.
        """
        self._broken = True
        return self.writer.discard_broken_pass(*run)

    def rewind(self, instances: int | Mapping[str, int]) -> None:
        """Forget the last instances; see Store.rewind()."""
        self.writer.life.check_open()
        self.writer.wait_for_pending()
        self.writer.rewind(instances)

    def flush(self) -> None:
        """Commit if this process can still write. Raises StoreClosed if rows are lost."""
        self.writer.flush()

    def finish(self, *names: str) -> None:
        """Commit. With its last layer, a store that was created for a path is closed."""
        with self._lock:
            self._unfinished.difference_update(names)
            closes = self.created_from_path and not self._unfinished
        self.writer.finish(names)
        if closes:
            self.close(finished=not self._broken)
        else:
            self.flush()

    def commit(self) -> None:
        """Commit; see Store.commit()."""
        self.writer.life.check_open()
        self.writer.wait_for_pending()
        self.writer.commit_between_passes()

    def close(self, *, finished: bool = True) -> None:
        """Close the store; see Store.close(). ``finished``: no exception has ended the capture."""
        self.writer.wait_for_pending()
        self.writer.life.close(finished=finished)

    def delete_new_store(self) -> None:
        """Delete everything that was written to a new store."""
        self.writer.life.abandon()
        for key in [*self._files.list_sizes(), KEY]:
            self._files.delete(key)
        self._files.delete_created_folders()
