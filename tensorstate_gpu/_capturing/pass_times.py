"""PassTimes: which forward passes of a model have begun, ended and failed."""

import weakref

from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock


class PassTimes:
    """The passes of a model, which several threads may make at the same time.

    Pass n has the time 2 n - 1, and the time after it is even. ``begun``: how many have begun. One
    that has begun and not ended runs, or has failed, as far as is known; it has failed for certain
    if its owner no longer exists. ``open``: the owners of such passes, by their time.
    """

    def __init__(self, begun: int = 0) -> None:
        self.begun = begun
        self.overlaps = False  # whether the last pass ran beside another
        self._lock = ForkSafeLock()
        self.open: dict[int, weakref.ref[object] | None] = {}
        self._over: set[int] = set()  # which of them run no more
        self._failed: list[int] = []

    def copy(self) -> "PassTimes":
        """Return the times as they are now, which stay."""
        with self._lock:
            copied = PassTimes(self.begun)
            copied.overlaps = self.overlaps
            copied.open, copied._failed = dict(self.open), list(self._failed)
            copied._over = set(self._over)
            return copied

    @property
    def latest(self) -> int:
        """The time of the last pass, or the time after it, if it has ended or failed."""
        time = 2 * self.begun - 1
        return time if time in self.open else time + 1

    def begin(self, owner: object = None) -> int:
        """Begin a pass, which ends before its owner, if it has one. Return its time."""
        with self._lock:
            for over in [*self._over]:  # a later one begins, so that is known now
                self.fail(over)
            self.overlaps = bool(self.open and self.unfinished())
            self.begun += 1
            time = 2 * self.begun - 1
            self.open[time] = None if owner is None else weakref.ref(owner)
            return time

    def end(self, time: int) -> None:
        """End a pass that is complete."""
        with self._lock:
            self.open.pop(time, None)
            self._over.discard(time)

    def fail(self, time: int) -> None:
        """Note that a pass has failed, unless it has ended."""
        with self._lock:
            if time in self.open:
                self.end(time)
                self._failed.append(time)

    def note_over(self, time: int) -> None:
        """Note that a pass runs no more, unless it has ended: it has failed."""
        with self._lock:
            if time in self.open:
                self._over.add(time)

    def is_over(self, time: int) -> bool:
        """Return whether a pass that has not ended runs no more: it has failed."""
        return time in self._over

    def end_all(self) -> None:
        """End all passes."""
        for time in list(self.open):
            self.end(time)

    def unfinished(self, since: int = 0) -> list[int]:
        """Return the times of passes that have begun and not ended.

        ``since``: but for the first so many passes.
        """
        with self._lock:
            for time, owner in [*self.open.items()]:
                if owner is not None and owner() is None:
                    self.fail(time)
            return [time for time in self.open if time > 2 * since]

    def broken(self) -> list[int]:
        """Return the times of passes that have not ended: the last one also if it has failed."""
        unfinished, last = self.unfinished(), 2 * self.begun - 1
        return [*unfinished, last] if last in self._failed else unfinished

    def forget(self, time: int) -> None:
        """Forget that a pass has begun, and that it has failed."""
        with self._lock:
            self.end(time)
            self._failed = [each for each in self._failed if each != time]

    def failed(self, since: int = 0) -> int:
        """Return how many passes have failed, beside those that are unfinished."""
        self.unfinished()
        return sum(time > 2 * since for time in self._failed)
