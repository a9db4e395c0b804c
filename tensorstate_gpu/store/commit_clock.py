"""When it is time to commit: after so many rows or seconds, and between two forward passes."""

import time


class CommitClock:
    """Counts what came since the last commit, and tells where forward passes end.

    A pass ends where the layer that comes first in it comes again.
    """

    def __init__(self, commit_rows: int | None, commit_seconds: float | None) -> None:
        self.rows = 0  # since the last commit
        self._commit_rows, self._commit_seconds = commit_rows, commit_seconds
        self._time = self._last_batch = time.monotonic()
        self._first: str | None = None
        self._since_first = 0  # batches

    def ends_a_pass(self, name: str, layers: int) -> bool:
        """Whether the batch of this layer that comes now begins another pass."""
        self._since_first += 1
        # The first layer may be one that the model no longer calls.
        if self._first is None or self._since_first > 10 * layers:
            self._first, self._since_first = name, 0
            return False
        if name != self._first:
            return False
        self._since_first = 0
        return True

    def took(self, rows: int) -> None:
        """A batch was taken."""
        self.rows += rows
        self._last_batch = time.monotonic()

    def is_due(self) -> bool:
        """Whether enough rows or seconds have passed."""
        waited = time.monotonic() - self._time
        return (self._commit_rows is not None and self.rows >= self._commit_rows) or (
            self._commit_seconds is not None and waited >= self._commit_seconds
        )

    def is_quiet(self) -> bool:
        """Whether there is something to commit, and nothing has come for long."""
        quiet = time.monotonic() - self._last_batch
        return (
            bool(self.rows) and self._commit_seconds is not None and quiet >= self._commit_seconds
        )

    def committed(self) -> None:
        """All that was taken so far is committed."""
        self.rows, self._time = 0, time.monotonic()
