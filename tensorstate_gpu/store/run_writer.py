"""What writes a store: the layers, the thread behind them, and when it commits."""

import contextlib
import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from tensorstate_gpu._process.interrupts import finished_before_interrupt
from tensorstate_gpu._process.locks import ForkSafeLock
from tensorstate_gpu.errors import StoreClosed
from tensorstate_gpu.store.background_writer import BackgroundWriter
from tensorstate_gpu.store.buffer_pool import Spares
from tensorstate_gpu.store.closing_at_exit import note
from tensorstate_gpu.store.columns import Column
from tensorstate_gpu.store.commit_clock import CommitClock
from tensorstate_gpu.store.commits import Moment, Publisher
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.layer_writer import LayerWriter
from tensorstate_gpu.store.record import Layer, Record


class Source(Protocol):
    """Whoever captures into a layer."""

    settle: Callable[[], object] | None  # waits for batches that are on their way here


class RunWriter:
    """Takes rows of several layers at once, and commits them together.

    What reaches the disk does so in threads of its own: whole chunks as they come, several at once
    where that pays, and commits between them.

    ``commit_rows``, ``commit_seconds``: commit when so many rows were taken, or so much time has
    passed since the last commit; between two forward passes, which are told apart by the layer that
    comes first.
    """

    def __init__(
        self,
        files: Files,
        record: Record,
        compressor: Any,
        commit_rows: int | None,
        commit_seconds: float | None,
    ) -> None:
        self.files = files
        self._publisher = Publisher(files, record)
        self.compressor = compressor
        self._clock = CommitClock(commit_rows, commit_seconds)
        self._names: dict[str, None] = dict.fromkeys(record.layers)
        self._layers: dict[str, LayerWriter] = {}
        self._sources: weakref.WeakSet[Source] = weakref.WeakSet()
        self._lock = ForkSafeLock()
        self._process = os.getpid()
        self._refuses = self.closing = self._closed = self._deleted = False
        self._commits_waiting = 0
        self._spares = Spares()
        self._background = BackgroundWriter(files.writers, self._commit_when_idle, commit_seconds)
        note(self)

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
        submit, spares = self._background.submit, self._spares
        return Column(self.files, key, empty, submit, spares, dimension_names, compressor)

    def remove(self, name: str) -> None:
        """Forget a layer, with all that is written of it; RuntimeError as check_open()."""
        if self._deleted or not self.files.exists():
            return
        self.check_open()
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
        if not self.is_open():
            return
        self._receive_all()
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
        """Wait for room; RuntimeError where this process must not write, or what went wrong."""
        self.check_open()
        self._background.wait_for_room()

    def check_open(self) -> None:
        """RuntimeError where this process must not write, or no longer can."""
        if self._process != os.getpid():
            raise StoreClosed(
                f"process {self._process} writes {self.files}, and a store has one writer; after a "
                "fork, capture with a disk_path of its own"
            )
        if self._deleted or not self.files.exists():
            raise StoreClosed(f"{self.files} was deleted while states were captured into it")
        if self._closed:
            raise StoreClosed(f"{self.files} is closed; open it with mode='a' to go on")

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
        if self._process == os.getpid():
            self._background.wait()
        return column.chunks(cut)

    # ---- commits -------------------------------------------------------------------------------

    def settle(self) -> None:
        """Wait for batches that a framework is still working on."""
        for source in list(self._sources):
            if source.settle is not None:
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
        # A forked child has copies: the rows are its parent's to write. And what was deleted
        # meanwhile stays deleted.
        if self._process != os.getpid() or self._closed or not self.files.exists():
            return
        self._receive_all()
        self._submit_commit()
        if wait:
            self._background.wait()

    def _receive_all(self) -> None:
        for layer in list(self._layers.values()):
            if layer.receive is not None:
                layer.receive()

    def _submit_commit(self) -> None:
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
                self._submit_commit()

    # ---- the end -------------------------------------------------------------------------------

    def close(self, *, finally_: bool = False) -> None:
        """Commit what is left, and let others write.

        When that fails nothing is given up, and close() can be called again; unless ``finally_``.
        """
        if self._process != os.getpid() or self._closed:
            return
        try:
            if self.closing:
                # _receive_last submits what comes behind it. Our own threads do it, and never wait.
                while not self._closed and not self._background.is_in_its_thread():
                    self._background.wait()
                return
            if finally_ or not self._is_lost():
                self._commit_last()
        except BaseException:
            self._refuses = False
            if finally_:
                self._background.give_up()
                self._end()
            raise
        self._end()

    def _commit_last(self) -> None:
        if not self.files.exists():
            return
        self._receive_all()
        with self._lock:
            self._refuses = True  # batches of other threads come before this commit, or not at all
            self._submit_commit()
        self._background.wait()

    def flush(self) -> None:
        """As commit(); RuntimeError when there are rows whose store was deleted."""
        if self._process == os.getpid() and not self._is_lost():
            self.commit()

    def _is_lost(self) -> bool:
        """Whether the store was deleted; RuntimeError when rows are lost by that."""
        lost = self._deleted or not self.files.exists()
        if lost and self._clock.rows:
            raise StoreClosed(f"{self.files} was deleted while states were captured into it")
        return lost

    def close_soon(self) -> None:
        """Close without waiting: for a finalizer, which may run in a thread that we wait for."""
        if self._process == os.getpid() and not self._closed:
            self.closing = True
            self._background.submit(self._receive_last, alone=True)

    def _receive_last(self) -> None:
        if self.files.exists():
            self._receive_all()
            self._submit_commit()  # behind the chunks that came just now
        self._background.submit(self._end, alone=True)

    def _end(self) -> None:
        with finished_before_interrupt():  # half ended, it could not be closed any more
            self._background.end()
            self.files.release()
            self._closed = True

    def is_open(self) -> bool:
        """Whether it takes rows from this process: it was not closed, nor its files deleted."""
        return self._process == os.getpid() and not self._closed and self.files.exists()

    def abandon(self) -> None:
        """Take no more rows: the store was deleted, and is not to be filled again with these."""
        self._deleted = True
        if self._process == os.getpid():  # a forked child has none of these threads
            self._background.give_up()
        self._end()
