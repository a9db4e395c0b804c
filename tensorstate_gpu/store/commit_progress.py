"""CommitProgress: how far commits are with writing counts, of all layers together."""

import contextlib
from collections.abc import Iterator

from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu._process.progress import OnDone, ProgressCallback


class CommitProgress:
    """Calls ``progress`` with the states that a commit has written so far, and that of all.

    Layers are written in several threads, and each says how many states it is going to write when
    it begins: the total may grow meanwhile.
    """

    def __init__(self, progress: ProgressCallback | None) -> None:
        self._progress = progress
        self._done = self._total = 0
        self._lock = ForkSafeLock()

    def tell(self, progress: ProgressCallback) -> None:
        """Call this function from the next layer on that a commit writes."""
        with self._lock:
            self._progress = progress

    def restart(self) -> None:
        """Begin at zero: a commit is published."""
        with self._lock:
            self._done = self._total = 0

    @contextlib.contextmanager
    def writing(self, states: int) -> Iterator[OnDone | None]:
        """Yield what to call with the number of states written since the last call.

        What is written in a block that raises an error is written again, and counts no more.
        """
        if self._progress is None or not states:
            yield None
            return
        written = 0

        def on_written(more: int) -> None:
            nonlocal written
            written += more
            self._add(more, 0)

        try:
            self._add(0, states)
            yield on_written
        except BaseException:
            with self._lock:
                self._done, self._total = self._done - written, self._total - states
            raise

    def _add(self, written: int, due: int) -> None:
        with self._lock:  # so that calls are in order
            self._done, self._total = self._done + written, self._total + due
            assert self._progress is not None
            self._progress(self._done, self._total)
