"""Ctrl-C between batches, not within one: a batch is kept whole, with its entry in the ledger."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def finished_before_interrupt() -> Iterator[None]:
    """Hold back SIGINT while the block runs, then deliver it to the handler that was there.

    Python runs signal handlers in the main thread only; in other threads there is nothing to do.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    # None: a handler that was not set from Python, and could not be put back.
    if not in_main_thread or signal.getsignal(signal.SIGINT) is None:
        yield
        return
    held: list[tuple[Any, ...]] = []
    former = signal.signal(signal.SIGINT, lambda *received: held.append(received))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
        if held and callable(former):
            former(*held[0])
        elif held:
            os.kill(os.getpid(), signal.SIGINT)
