"""Ctrl-C between batches, not within one: a batch is kept whole, with its entry in the ledger."""

import os
import threading

# The functions behind the module signal, which turns each handler into an enum: on Python 3.11
# that takes 3 us, three times a batch.
from _signal import SIGINT, getsignal, signal  # type: ignore[import-not-found]
from typing import Any


class finished_before_interrupt:
    """Hold back SIGINT while the block runs, then deliver it to the handler that was there.

    Python runs signal handlers in the main thread only; in other threads there is nothing to do.
    """

    def __enter__(self) -> None:
        self._held: list[tuple[Any, ...]] = []
        in_main_thread = threading.current_thread() is threading.main_thread()
        # None: a handler that was not set from Python, and could not be put back.
        self._holds = in_main_thread and getsignal(SIGINT) is not None
        if self._holds:
            self._former = signal(SIGINT, lambda *received: self._held.append(received))

    def __exit__(self, *_: object) -> None:
        if not self._holds:
            return
        signal(SIGINT, self._former)
        if self._held and callable(self._former):
            self._former(*self._held[0])
        elif self._held:
            os.kill(os.getpid(), SIGINT)
