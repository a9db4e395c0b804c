"""Defers Ctrl-C to the end of a batch: it never interrupts between rows and ledger."""

import os

# The C functions behind the module signal. The module converts each handler to an enum, which takes
# 3 us on Python 3.11, three times per batch.
from _signal import SIGINT, getsignal, signal  # type: ignore[import-not-found]
from typing import Any


class deferred_interrupts:
    """Defer SIGINT until the end of the block, then call the previous handler.

    Python runs signal handlers only in the main thread. In other threads this does nothing.
    """

    def __enter__(self) -> None:
        self._pending: list[tuple[Any, ...]] = []
        # None: a handler that was not set from Python; it could not be restored.
        self._is_deferring = getsignal(SIGINT) is not None
        if self._is_deferring:
            try:
                self._previous_handler = signal(
                    SIGINT, lambda *received: self._pending.append(received)
                )
            except ValueError:  # another thread: sooner tried than found out
                self._is_deferring = False

    def __exit__(self, *_: object) -> None:
        if not self._is_deferring:
            return
        signal(SIGINT, self._previous_handler)
        if self._pending and callable(self._previous_handler):
            self._previous_handler(*self._pending[0])
        elif self._pending:
            os.kill(os.getpid(), SIGINT)
