"""PassLog: in how many forward passes of a model a layer ran."""

from tensorstate_gpu._capturing.pass_times import PassTimes
from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock

MOST_NOTED = 16  # passes, beside those that still run


class PassLog:
    """In how many passes of a model a layer ran, since it was attached or reset."""

    def __init__(self, times: PassTimes) -> None:
        self._times = times
        self._lock = ForkSafeLock()
        self.restart()

    @property
    def clock(self) -> PassTimes:
        """The times of the passes of the model."""
        return self._times

    def stop(self) -> None:
        """Count no further passes."""
        self._times = self._times.copy()

    def leave_out_failed_pass(self) -> None:
        """Count no further passes, nor one that has begun and not ended."""
        self.stop()
        for time in self._times.broken():
            self._ran -= time in self._noted
            self._left_out += time > 2 * self._begun_before
            self._times.forget(time)

    def restart(self) -> None:
        """Count from zero."""
        self._begun_before, self._left_out = self._times.begun, 0
        self._ran = 0
        self._noted: set[int] = set()  # times of passes in which the layer ran
        self._is_shared = False

    def note_run(self, time: int) -> None:
        """Note that the layer ran at a time. Outside of passes, that does not count."""
        if time % 2 == 0 or time < 2 * self._begun_before:
            return
        if time in self._noted:
            self._is_shared = True
            return
        with self._lock:
            if time not in self._noted:  # as another thread may have noted
                if len(self._noted) > MOST_NOTED:
                    self._noted = self._noted.intersection(self._times.unfinished())
                self._noted.add(time)
                self._ran += 1

    def passes(self, *, ended: bool = False) -> tuple[int, int] | None:
        """Return in how many passes the layer ran, and how many there were; None if none were.

        ``ended``: leave out passes that still run, or have failed last.
        """
        ran, total = self._ran, self._times.begun - self._begun_before - self._left_out
        if ended:
            unfinished = self._unfinished()
            ran -= sum(time in self._noted for time in unfinished)
            total -= len(unfinished)
        return (ran, total) if total > 0 else None

    def _unfinished(self) -> list[int]:
        return self._times.unfinished(self._begun_before)

    def failed(self, *, ended: bool = False) -> int:
        """Return how many passes have failed; those that still run may do so."""
        running = 0 if ended else len(self._unfinished())
        return self._times.failed(self._begun_before) + running

    def in_pass(self) -> bool | None:
        """Return whether a pass has begun and not ended; None if there were none."""
        return None if self.passes() is None else bool(self._times.broken())

    def overlaps(self) -> bool:
        """Return whether the last pass ran beside another, which may have come further."""
        return self._times.overlaps

    def is_shared(self) -> bool:
        """Return whether the layer ran several times in a pass, at one capture point."""
        return self._is_shared

    def bypass(self) -> str | None:
        """Return what has run the layer without its capture point in some passes, if known."""
        return None
