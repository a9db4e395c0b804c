"""PassLog: in how many forward passes of a model a layer ran."""

from dataclasses import dataclass
from typing import Any, Protocol


class Clock(Protocol):
    """Counts the passes of a model: pass n has the time 2 n - 1, and the time after it is even."""

    @property
    def clock(self) -> int:
        """The time now."""

    @property
    def failed(self) -> int:
        """How many passes have failed, before the one that runs."""


def next_pass(clock: Any) -> Any:
    """Return the time of the pass that begins next, or an array of it. One that failed has no end.

    >>> next_pass(0), next_pass(1), next_pass(2)
    (1, 3, 3)
    """
    return clock + 1 + clock % 2


@dataclass(frozen=True, slots=True)
class _Stopped:
    """A clock that stands still."""

    clock: int
    failed: int


class PassLog:
    """In how many passes of a model a layer ran, since it was attached or reset."""

    def __init__(self, counter: Clock) -> None:
        self._counter = counter
        self.restart()

    def stop(self) -> None:
        """Count no further passes."""
        self._counter = _Stopped(self._counter.clock, self._counter.failed)

    def leave_out_failed_pass(self) -> None:
        """Count no further passes, nor one that has begun and not ended."""
        clock = self._counter.clock
        self._ran -= clock % 2 and self._last == clock
        self._counter = _Stopped(clock - clock % 2, self._counter.failed)

    def restart(self) -> None:
        """Count from zero."""
        self._start = self._last = self._counter.clock
        self._ran = 0
        self._failed_before = self._counter.failed

    def note_run(self, clock: int) -> None:
        """Note that the layer ran at a time. Outside of passes, that does not count."""
        if clock % 2 and clock > self._last:
            self._last = clock
            self._ran += 1

    def passes(self, *, ended: bool = False) -> tuple[int, int] | None:
        """Return in how many passes the layer ran, and how many there were; None if none were.

        ``ended``: leave out a pass that still runs, or has failed.
        """
        clock, ran = self._counter.clock, self._ran
        if ended and clock % 2:
            ran -= self._last == clock
            clock -= 1
        total = (clock + 1) // 2 - (self._start + 1) // 2
        return (ran, total) if total > 0 else None

    def failed(self, *, ended: bool = False) -> int:
        """Return how many passes have failed; one that still runs may do so."""
        running = 0 if ended else self._counter.clock % 2
        return self._counter.failed - self._failed_before + running

    def in_pass(self) -> bool | None:
        """Return whether a pass has begun and not ended; None if there were none."""
        return None if self.passes() is None else self._counter.clock % 2 == 1

    def bypass(self) -> str | None:
        """Return what has run the layer without its capture point in some passes, if known."""
        return None
