"""Sinks: where a capture point's batches go (memory, running counts, a store)."""

import copy
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._capturing.options import CaptureOptions
from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.broken_passes import PassClock
from tensorstate_gpu._layers.counts_accumulator import CountsAccumulator
from tensorstate_gpu._layers.layer_facts import LayerFacts
from tensorstate_gpu._layers.memory_rows import MemoryRows
from tensorstate_gpu._layers.rows_accumulator import RowsAccumulator
from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu.errors import OtherProcess, StoreClosed

if TYPE_CHECKING:
    from tensorstate_gpu.store.batch_source import BatchSource
    from tensorstate_gpu.store.commit_record import LayerRecord
    from tensorstate_gpu.store.store import Store
    from tensorstate_gpu.store.writing_session import WritingSession


class Sink(Protocol):
    """The destination of a capture point's batches."""

    def open(self, neurons: int, attributes: dict[str, Any]) -> Accumulator:
        """Return the accumulator of a new layer; ``attributes``: how it is captured, as JSON."""

    def existing(self) -> tuple[Accumulator, int | None] | None:
        """Return the accumulator and the neuron axis of a layer that already has rows, or None."""

    def earlier_facts(self) -> LayerFacts | None:
        """Return what an earlier capture, which this one continues, knew of the layer, or None."""

    def holds(self, name: str) -> bool:
        """Return whether rows of a layer of that name were there before this capture."""

    def copied(self, accumulator: Accumulator | None) -> tuple["Sink", Accumulator | None]:
        """Return the sink and the accumulator of a copy, with everything captured so far.

        The accumulator is None if existing() of the new sink returns it.
        """

    @property
    def store(self) -> Any:
        """The Store of the rows, or None."""

    def follow_passes(self, clock: PassClock | None) -> None:
        """Let a store know by this clock when passes of the model begin."""

    def before_batch(self) -> None:
        """Wait for queue space, and commit if it is time to. Raises background errors."""

    def remove(self) -> Callable[[], None]:
        """Delete rows that are kept outside the accumulator. Return what waits for that.

        The layer can be captured anew before that, and also if waiting raises an error.
        """

    def release_name(self) -> None:
        """Release the layer's name: nothing will be captured."""

    def flush(self) -> None:
        """Commit buffered rows."""

    def close(self) -> None:
        """Commit buffered rows. Closes a store made from a path, if no other layer needs it."""

    def discard_broken_pass(self) -> bool:
        """Discard the batches of a pass that an exception ended, of all layers of the run.

        Return whether there were any.
        """


class _NoStore:
    """The operations of sinks without a store. Like a store, they belong to one process."""

    def __init__(self, name: str) -> None:
        self._name, self._process = name, os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _process=os.getpid())

    store: Any = None

    def existing(self) -> tuple[Accumulator, int | None] | None:
        return None

    def earlier_facts(self) -> LayerFacts | None:
        return None

    def before_batch(self) -> None:
        """Raise OtherProcess in a forked child, whose batches the parent would never see."""
        if os.getpid() != self._process:
            raise OtherProcess(
                f"{self._name}: process {self._process} captures this model, and what a forked "
                "process adds would be lost; capture() there, or reset_states() there to start anew"
            )

    def follow_passes(self, clock: PassClock | None) -> None:
        """Nothing to do: PassMarks does it."""

    def holds(self, name: str) -> bool:
        return False

    def _do_nothing(self) -> None:
        """Nothing to do."""

    def remove(self) -> Callable[[], None]:
        return self._do_nothing

    release_name = flush = close = _do_nothing

    def discard_broken_pass(self) -> bool:
        """Nothing to do: PassMarks does it."""
        return False


class MemorySink(_NoStore):
    """Keeps every row, in memory."""

    def __init__(self, name: str, compressor: Any, rows: MemoryRows | None = None) -> None:
        super().__init__(name)
        self._compressor, self._rows = compressor, rows

    def open(self, neurons: int, attributes: dict[str, Any]) -> Accumulator:
        self._rows = MemoryRows(row_bytes(neurons), self._compressor)
        return RowsAccumulator(neurons, self._rows)

    def copied(self, accumulator: Accumulator | None) -> tuple["MemorySink", Accumulator | None]:
        if accumulator is None or self._rows is None:
            return MemorySink(self._name, self._compressor), None
        accumulator.collect_transferred(wait=True)
        rows = self._rows.copy()
        copied = MemorySink(self._name, self._compressor, rows)
        return copied, RowsAccumulator(accumulator.neurons, rows)


class CountsSink(_NoStore):
    """Keeps running counts, also by group if ``groups`` says for how many."""

    def __init__(self, name: str, groups: int | None) -> None:
        super().__init__(name)
        self._groups = groups

    def open(self, neurons: int, attributes: dict[str, Any]) -> Accumulator:
        return CountsAccumulator(neurons, self._groups)

    def copied(self, accumulator: Accumulator | None) -> tuple["CountsSink", Accumulator | None]:
        return self, accumulator.copy() if isinstance(accumulator, CountsAccumulator) else None


class StoreSink:
    """Keeps every row, or counts, in a store. Before a commit, the store waits for ``source``.

    ``facts``: returns what a commit says of the layer. It must not refer to the store, which would
    then never be collected. ``may_be_new``: see WritingSession.claim().
    """

    def __init__(
        self,
        name: str,
        options: CaptureOptions,
        source: "BatchSource",
        lock: ForkSafeLock,
        facts: Callable[[], LayerFacts],
        may_be_new: bool,
    ) -> None:
        from tensorstate_gpu.store.stores_by_path import store_for  # slow to import: zarr

        self._name, self._lock, self._facts = name, lock, facts
        self.store = store_for(options.disk_path, name)
        self._session = self.store.session
        self._found = self._session.claim(
            name,
            options.firing_rule(),
            source,
            may_be_new=may_be_new,
            keep=options.keep,
            groups=options.groups,
            run=options.run,
        )
        self._keep, self._run = options.keep, options.run

    def open(self, neurons: int, attributes: dict[str, Any]) -> Accumulator:
        return self._opened(neurons, attributes, None)

    def existing(self) -> tuple[Accumulator, int | None] | None:
        found = self._found
        if found is None:
            return None
        accumulator = self._opened(found.neurons, found.capture, found)
        return accumulator, found.capture["neuron_axis"]

    def earlier_facts(self) -> LayerFacts | None:
        return self._session.earlier_facts(self._name)

    def holds(self, name: str) -> bool:
        return self._session.holds(name)

    def _opened(
        self, neurons: int, attributes: dict[str, Any], committed: "LayerRecord | None"
    ) -> Accumulator:
        layer = self._name, neurons, attributes, committed, self._facts
        if self._keep == "counts":
            return self._session.open_counts(*layer).accumulator
        writer = self._session.open_layer(*layer)
        accumulator = RowsAccumulator(writer.neurons, writer, self._lock)
        writer.drain_from(accumulator)
        return accumulator

    def copied(self, accumulator: Accumulator | None) -> tuple["CommittedSink", None]:
        return CommittedSink(self._name, copy.copy(self.store)), None

    def follow_passes(self, clock: PassClock | None) -> None:
        self._session.follow_passes(self._name, clock)

    def before_batch(self) -> None:
        self._session.before_batch(self._name)

    def remove(self) -> Callable[[], None]:
        return self._session.remove(self._name)

    def release_name(self) -> None:
        self._session.release_name(self._name)

    def flush(self) -> None:
        self._session.flush()

    def close(self) -> None:
        self._session.finish(self._name)

    def discard_broken_pass(self) -> bool:
        return self._session.discard_broken_pass(self._run)


def close_together(sinks: Iterable[Sink]) -> None:
    """Close the sinks of a run: what is kept in one store is committed once, and not by layer.

    If a store cannot commit, the others do so before its error is raised.
    """
    with ExitStack() as closing:
        for session, names in _by_store(sinks).items():
            closing.callback(session.finish, *names)


def remove_together(sinks: Iterable[Sink]) -> list[Callable[[], None]]:
    """Delete the rows of the sinks of a run, in each store by one commit; see Sink.remove()."""
    kept = list(sinks)
    waits = [sink.remove() for sink in kept if not isinstance(sink, StoreSink)]
    return waits + [session.remove(*names) for session, names in _by_store(kept).items()]


def _by_store(sinks: Iterable[Sink]) -> dict["WritingSession", list[str]]:
    """Return the names of the layers that are written to each store, by its session."""
    names: dict[WritingSession, list[str]] = {}
    for sink in sinks:
        if isinstance(sink, StoreSink):
            names.setdefault(sink._session, []).append(sink._name)
    return names


class CommittedSink(_NoStore):
    """The store of a capture point that was copied: it is read, and takes no batches."""

    def __init__(self, name: str, store: "Store") -> None:
        super().__init__(name)
        self.store = store

    def existing(self) -> tuple[Accumulator, int | None] | None:
        committed = self.store.record.layers.get(self._name)
        if committed is None:
            return None
        return self.store[self._name].accumulator(), committed.capture["neuron_axis"]

    def copied(self, accumulator: Accumulator | None) -> tuple["CommittedSink", None]:
        return self, None

    def open(self, neurons: int, attributes: dict[str, Any]) -> Accumulator:
        raise self._closed_error()

    def before_batch(self) -> None:
        raise self._closed_error()

    def remove(self) -> Callable[[], None]:
        raise self._closed_error()

    def _closed_error(self) -> StoreClosed:
        return StoreClosed(f"{self._name} is a copy of a capture point: it only reads {self.store}")
