"""CommitClock: decides when to commit."""

import time


class CommitClock:
    """Counts rows and seconds since the last commit."""

    def __init__(self, commit_rows: int | None, commit_seconds: float | None) -> None:
        self.rows = 0  # since the last commit
        self._commit_rows, self._commit_seconds = commit_rows, commit_seconds
        self._last_commit = self._last_batch = time.monotonic()

    def record_batch(self, rows: int) -> None:
        """Count the rows of a batch."""
        self.rows += rows
        self._last_batch = time.monotonic()

    def is_due(self) -> bool:
        """Return whether a commit is due, by the number of rows or by time."""
        waited = time.monotonic() - self._last_commit
        return (self._commit_rows is not None and self.rows >= self._commit_rows) or (
            self._commit_seconds is not None and waited >= self._commit_seconds
        )

    def is_idle(self) -> bool:
        """Return whether there are uncommitted rows, and no recent batch.

        A batch is recent if it came within the last ``commit_seconds``.
        """
        idle = time.monotonic() - self._last_batch
        limit = self._commit_seconds
        return self.rows > 0 and limit is not None and idle >= limit

    def mark_committed(self) -> None:
        """Restart counting: everything so far is committed."""
        self.rows, self._last_commit = 0, time.monotonic()
