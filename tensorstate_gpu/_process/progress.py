"""Progress of long operations: the type of the functions that report it, and a bar on stderr."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from tensorstate_gpu._arguments import function

Piece = TypeVar("Piece")
OnDone = Callable[[int], object]  # is called with what was done since the last call

SECONDS = 5.0  # between two lines, and before the first line


class ProgressCallback(Protocol):
    """Called with the amount done so far and, if it is known, the total."""

    def __call__(self, done: int, total: int = ..., /) -> object: ...


def with_progress(
    pieces: Iterable[Piece], size: Callable[[Piece], int], on_done: OnDone | None
) -> Iterator[Piece]:
    """Yield pieces; call ``on_done`` with the size of each when the next one is wanted."""
    for piece in pieces:
        yield piece
        if on_done is not None:
            on_done(size(piece))


def running_total(progress: ProgressCallback | None, total: int) -> OnDone | None:
    """Return a function that adds up what it is called with, and calls ``progress`` with the sum.

    ``total``: of all, which ``progress`` is told, too. Raises TypeError if that is no function.
    """
    function(progress, "progress")
    if progress is None:
        return None
    done = 0

    def on_done(more: int) -> None:
        nonlocal done
        done += more
        progress(done, total)

    return on_done


def so_far(on_done: OnDone | None) -> ProgressCallback | None:
    """Return what tells ``on_done`` how much more is done than at its last call."""
    if on_done is None:
        return None
    before = 0

    def progress(done: int, total: int = 1) -> None:
        nonlocal before
        on_done(done - before)
        before = done

    return progress


@contextlib.contextmanager
def readings(on_done: OnDone | None, size: int, times: int) -> Iterator[OnDone | None]:
    """Yield what is told of up to ``times`` readings of ``size`` each, and tells of one in all.

    Fewer readings may be needed: what is left at the end is told then.
    """
    if on_done is None:
        yield None
        return
    read = told = 0

    def on_read(more: int) -> None:
        nonlocal read, told
        read += more
        if (now := min(size, read // times)) > told:
            on_done(now - told)
            told = now

    yield on_read
    if size > told:
        on_done(size - told)


def complete(progress: ProgressCallback | None, total: int) -> None:
    """Tell that all is done where nothing was to do; of nothing, as 1 of 1, which has a share."""
    if progress is not None:
        progress(max(1, total), max(1, total))


def counted_then_written(
    progress: ProgressCallback | None, rows: int
) -> tuple[OnDone | None, ProgressCallback | None]:
    """Return what tells ``progress`` that rows are counted, and how much of the result is written.

    Each of ``rows`` is done once in both.
    """
    on_counted = running_total(progress, 2 * rows)
    if progress is None:
        return None, None

    def on_written(done: int, total: int = 1) -> None:
        if rows:
            progress(rows + rows * done // max(1, total), 2 * rows)
        else:
            complete(progress, 0)

    return on_counted, on_written


class Progress:
    """A progress bar on a terminal with tqdm; otherwise a line every few seconds.

    ``total``: the number of ``unit`` to be done; None if nobody knows.
    """

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self.done = 0
        self._last_line = time.monotonic()
        self._bar = _bar(what, total, unit) if sys.stderr.isatty() else None

    def to(self, done: int, total: int | None = None, *, note: str = "") -> None:
        """Set how much is done. ``note`` is shown behind it."""
        self._total = self._total if total is None else total
        if self._bar is not None:
            self._bar.total = self._total
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self.done)
        elif time.monotonic() - self._last_line >= SECONDS:
            of_total = "" if self._total is None else f" of {self._total:,}"
            amount = f"{done:,}{of_total} {self._unit}"
            print(f"{self._what}: {amount}{note and ', '}{note}", file=sys.stderr)
            self._last_line = time.monotonic()
        self.done = done

    def add(self, more: int, *, note: str = "") -> None:
        """Add to what is done."""
        self.to(self.done + more, note=note)

    @classmethod
    def in_percent(cls, what: str) -> "Progress":
        """Return one of work of which a part is done several times; see to_share()."""
        return cls(what, 100, "percent")

    def to_share(self, done: int, total: int = 1) -> None:
        """Set how much is done, in percent."""
        self.to(100 * done // total)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _bar(what: str, total: int | None, unit: str) -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    # Remove the bar at the end, so that only the result stays on the screen.
    return tqdm(total=total, desc=what, unit=f" {unit}", unit_scale=True, leave=False)
