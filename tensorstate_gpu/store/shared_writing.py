"""SharedWriting: the threads, the memory and the lock that all layers of a run are written with."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu.errors import StoreClosed
from tensorstate_gpu.store.background_writer import BackgroundWriter
from tensorstate_gpu.store.buffer_pool import BufferPool
from tensorstate_gpu.store.columns import Column
from tensorstate_gpu.store.commit_clock import CommitClock
from tensorstate_gpu.store.commit_progress import CommitProgress
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.options import WriterOptions
from tensorstate_gpu.store.writer_life import WriterLife
from tensorstate_gpu.store.written_layer import WrittenLayer


class SharedWriting:
    """What the layers of a run are written with; see RunContext. RunWriter commits them.

    ``on_idle``: called by a background thread when no batch has come for a while.
    """

    life: WriterLife

    def __init__(self, files: Files, options: WriterOptions, on_idle: Callable[[], None]) -> None:
        self.files = files
        self.compressor = options.compressor
        self.progress = CommitProgress(options.progress)
        self._clock = CommitClock(options.commit_rows, options.commit_seconds)
        self._layers: dict[str, WrittenLayer] = {}
        # Jobs ask for it, too. A signal handler that commits waits for them, so none may run in a
        # thread that holds it: these defer signals.
        self._lock = ForkSafeLock()
        # Layers whose last pass broke and is to be taken back, by name; each pass is an object of
        # its own. Until then they take no batches, and commits leave them as they are.
        self._broken: dict[str, object] = {}
        self._rejects_all = False
        self._chunk_bytes = options.chunk_size
        self._pool = BufferPool(self._chunk_bytes)
        self._background = BackgroundWriter(files.writer_threads, on_idle, options.commit_seconds)

    def column(
        self,
        key: str,
        empty: NDArray[Any],
        dimension_names: Sequence[str],
        compressor: Any,
        most_chunk_bytes: int | None = None,
    ) -> Column:
        """Return a growing array that the background threads write."""
        return Column(
            self.files,
            key,
            empty,
            self._background.submit,
            self._pool,
            dimension_names,
            compressor,
            min(self._chunk_bytes, most_chunk_bytes or self._chunk_bytes),
        )

    def check_writable(self) -> None:
        """Wait for queue space. Raises StoreClosed, or the error of a background thread."""
        self.life.check_open()
        self._background.wait_for_queue_space()

    @contextlib.contextmanager
    def adding_batch(
        self, layer: WrittenLayer, rows: int, *, has_arrived: bool = False
    ) -> Iterator[None]:
        """Context manager that blocks commits while a batch, or a part of one, is added.

        ``has_arrived``: the ledger lists it already. Raises StoreClosed if the store is closed, the
        layer was removed, or its last pass is to be taken back.
        """
        with self._lock:
            if self._rejects_all or self._layers.get(layer.name) is not layer:
                raise StoreClosed(f"{self.files} takes no more rows of {layer.name!r}")
            if layer.name in self._broken and not has_arrived:
                raise StoreClosed(
                    f"{self.files} takes no more rows of {layer.name!r} before commit() has taken "
                    "back its last pass, which an error has ended"
                )
            yield
            self._clock.record_batch(rows)

    def read(self, column: Column) -> Iterator[NDArray[Any]]:
        """Return an iterator over the values that a column has now."""
        with deferred_interrupts(), self._lock:
            snapshot = column.snapshot()
        if self.life.is_own_process:
            self._background.wait()
        return column.chunks(snapshot)

    def reject_batches(self, reject: bool) -> None:
        """Reject further batches, or accept them again."""
        with self._lock:
            self._rejects_all = reject

    def has_failed_with(self, error: Exception) -> bool:
        """Return whether an exception is that of a background thread."""
        return self._background.has_failed_with(error)
