"""Defers Ctrl-C to the end of a batch: it never interrupts between rows and ledger."""

import os
import threading

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
        previous = getsignal(SIGINT)
        self._is_deferring = previous is not None
        if self._is_deferring:
            try:
                self._previous_handler = signal(
                    SIGINT, lambda *received: self._pending.append(received)
                )
            except ValueError:  # not in the main thread; to try takes less time than to ask
                self._is_deferring = False
                if threading.current_thread() is threading.main_thread():
                    signal(SIGINT, previous)  # the error is of another handler, which ran meanwhile
                    raise

    def __exit__(self, *_: object) -> None:
        if not self._is_deferring:
            return
        signal(SIGINT, self._previous_handler)
        if self._pending and callable(self._previous_handler):
            self._previous_handler(*self._pending[0])
        elif self._pending:
            os.kill(os.getpid(), SIGINT)
