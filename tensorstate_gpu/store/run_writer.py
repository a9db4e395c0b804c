"""RunWriter: takes the batches of a run's layers, and commits them together."""

import contextlib
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from tensorstate_gpu._process.locks import ForkSafeLock
from tensorstate_gpu.errors import StoreClosed
from tensorstate_gpu.store.background_writer import BackgroundWriter
from tensorstate_gpu.store.buffer_pool import BufferPool
from tensorstate_gpu.store.closing_at_exit import note
from tensorstate_gpu.store.columns import Column
from tensorstate_gpu.store.commit_clock import CommitClock
from tensorstate_gpu.store.commits import Moment, Publisher
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.layer_writer import LayerWriter
from tensorstate_gpu.store.options import WriterOptions
from tensorstate_gpu.store.record import Layer, Record
from tensorstate_gpu.store.writer_life import WriterLife


class Source(Protocol):
    """What captures into a layer: an Intake."""

    def settle(self) -> None:
        """Wait for batches that a framework is still working on."""


class RunWriter:
    """Takes rows of several layers at once, and commits them together.

    What reaches the disk does so in threads of its own: whole chunks as they come, several at once
    where that pays, and commits between them.

    It commits by itself when ``commit_rows`` rows were taken since the last commit, or after
    ``commit_seconds``; between two forward passes, told apart by the layer that comes first.
    """

    def __init__(
        self,
        files: Files,
        record: Record,
        options: WriterOptions,
    ) -> None:
        self.files = files
        self._publisher = Publisher(files, record)
        self.compressor = options.compressor
        self._clock = CommitClock(options.commit_rows, options.commit_seconds)
        self._names: dict[str, None] = dict.fromkeys(record.layers)
        self._layers: dict[str, LayerWriter] = {}
        self._sources: weakref.WeakSet[Source] = weakref.WeakSet()
        self._lock = ForkSafeLock()
        self._refuses = False
        self._commits_waiting = 0
        self._chunk_bytes = options.chunk_size
        self._pool = BufferPool(self._chunk_bytes)
        self._background = BackgroundWriter(
            files.writers, self._commit_when_idle, options.commit_seconds
        )
        self.life = WriterLife(files, self._background, self)
        note(self.life)

    @property
    def record(self) -> Record:
        """The last one that was published."""
        return self._publisher.record

    # ---- layers --------------------------------------------------------------------------------

    def claim(self, name: str, source: Source) -> None:
        """List a layer, also before it has rows."""
        with self._lock:
            self._names[name] = None
            self._sources.add(source)

    def layer(
        self, name: str, neurons: int, capture: dict[str, Any], found: Layer | None
    ) -> LayerWriter:
        """What takes the rows of a layer; ``found``: what is committed of it."""
        with self._lock:
            self._background.start()
            self._names[name] = None
            self._layers[name] = LayerWriter(self, name, neurons, capture, found)
            return self._layers[name]

    def column(
        self, key: str, empty: NDArray[Any], dimension_names: Sequence[str], compressor: Any
    ) -> Column:
        """A growing array that this writer writes."""
        return Column(
            self.files,
            key,
            empty,
            self._background.submit,
            self._pool,
            dimension_names,
            compressor,
            self._chunk_bytes,
        )

    def remove(self, name: str) -> None:
        """Forget a layer, with all that is written of it; StoreClosed as life.check_open()."""
        if self.life.is_deleted:
            return
        self.life.check_open()
        with self._lock:
            self._names.pop(name, None)
            if self._layers.pop(name, None) is None and self.record.layers.get(name) is None:
                return
            self._background.submit(lambda: self._publisher.forget(name), alone=True)
        self._background.wait()

    # ---- batches -------------------------------------------------------------------------------

    def before_batch(self, name: str) -> None:
        """Called before a layer takes a batch: wait for room, commit when it is time.

        Raises what went wrong in the background since the last call.
        """
        self.check()
        if not self._clock.ends_a_pass(name, len(self._names)):
            return
        self._mark_all()
        if self._clock.is_due() and not self._commits_waiting:
            self.commit(wait=False)

    def _mark_all(self) -> None:
        with self._lock:
            for layer in self._layers.values():
                layer.mark()

    def forget_broken_pass(self) -> None:
        """Forget the batches of a forward pass that an exception ended, if there are any.

        There are when layers have seen different numbers of inputs.
        """
        if not self.life.is_open():
            return
        self.bring_all()
        if len({layer.instance_count for layer in self._layers.values()}) <= 1:
            return
        with self._lock:
            self._refuses = True  # what other threads add now would be in the way
        try:
            self._background.wait()
            with self._lock:
                for layer in self._layers.values():
                    layer.rewind()
        finally:
            self._refuses = False

    def check(self) -> None:
        """Wait for room; StoreClosed where this process must not write, or what went wrong."""
        self.life.check_open()
        self._background.wait_for_room()

    @contextlib.contextmanager
    def adding(self, layer: LayerWriter, rows: int) -> Iterator[None]:
        """Take a batch, or part of one, between two commits and not within one.

        RuntimeError when the store is closed, or the layer was removed.
        """
        with self._lock:
            if self._refuses or self._layers.get(layer.name) is not layer:
                raise StoreClosed(f"{self.files} takes no more rows of {layer.name!r}")
            yield
            self._clock.took(rows)

    def read(self, column: Column) -> Iterator[NDArray[Any]]:
        """The values of a column that are there at the call."""
        with self._lock:
            cut = column.cut()
        if self.life.is_ours:
            self._background.wait()
        return column.chunks(cut)

    # ---- commits -------------------------------------------------------------------------------

    def settle(self) -> None:
        """Wait for batches that a framework is still working on."""
        for source in list(self._sources):
            source.settle()

    def commit_here(self) -> None:
        """As commit(), by the user: between two forward passes."""
        self._mark_all()
        self.commit()

    def commit(self, *, wait: bool = True) -> None:
        """Publish all batches so far; when it returns, they are kept.

        OSError or another exception when that fails: what was committed before is whole, and the
        next call tries again.
        """
        if not self.life.is_open():
            return
        self.bring_all()
        self.submit_commit()
        if wait:
            self._background.wait()

    def bring_all(self) -> None:
        """Keep all that is on its way from a device."""
        for layer in list(self._layers.values()):
            layer.bring()

    def submit_commit(self) -> None:
        """Have all batches so far committed by the background threads."""
        with self._lock:
            moment = self._moment()
            self._commits_waiting += 1
            self._publisher.submit(moment, self._background.submit, self._published)

    def _published(self) -> None:
        with self._lock:
            self._commits_waiting -= 1

    def _moment(self) -> Moment:
        with self._lock:
            self._clock.committed()
            layers = {name: (layer, layer.cut()) for name, layer in self._layers.items()}
            return Moment(list(self._names), layers)

    def _commit_when_idle(self) -> None:
        with self._lock:
            # Different numbers: within a forward pass, as far as can be seen here.
            same = len({layer.instance_count for layer in self._layers.values()}) == 1
            if same and self._clock.is_quiet():
                self.submit_commit()

    def flush(self) -> None:
        """As commit(); StoreClosed when there are rows whose store was deleted."""
        if self.life.is_ours and not self.life.is_lost():
            self.commit()

    # ---- what the end of its life asks of it ---------------------------------------------------

    def rows_to_commit(self) -> int:
        """Rows taken since the last commit."""
        return self._clock.rows

    def refuse_batches(self, refuse: bool) -> None:
        """Take no more batches; or take them again."""
        with self._lock:
            self._refuses = refuse
