"""Defers Ctrl-C and other signals to the end of a batch: none comes between rows and ledger."""

import os
import signal as names
import threading

# The C functions behind the module signal. The module converts each handler to an enum, which takes
# 3 us on Python 3.11, three times per batch.
from _signal import SIGINT, getsignal, signal  # type: ignore[import-not-found]
from typing import Any

# Signals whose handlers may raise exceptions: a job is to end soon, a time limit is over, a
# terminal is closed. Not all that there are: this asks for each handler, for each batch.
_OTHERS = [
    int(getattr(names, name))
    for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGBREAK")
    if hasattr(names, name)
]


class deferred_interrupts:
    """Defer signals until the end of the block, then call their handlers.

    Those are SIGINT, and others that have a handler in Python. Python runs signal handlers only in
    the main thread. In other threads this does nothing.
    """

    def __enter__(self) -> None:
        self._pending: list[tuple[Any, ...]] = []
        self._replaced: dict[int, Any] = {}  # handlers, by signal
        # None: a handler that was not set from Python; it could not be restored.
        previous = getsignal(SIGINT)
        if previous is None:
            return
        try:
            self._replaced[SIGINT] = previous  # first: another handler may raise at any place
            signal(SIGINT, self._note)
            for number in _OTHERS:
                if callable(previous := getsignal(number)):
                    self._replaced[number] = previous
                    signal(number, self._note)
        except BaseException as error:
            if isinstance(error, ValueError) and not _in_main_thread():
                self._replaced.clear()  # to try takes less time than to ask
                return
            self.__exit__()  # also for signals that came already
            raise

    def __exit__(self, *_: object) -> None:
        if not self._replaced:
            return
        handlers = self._replaced.copy()
        try:
            self._restore()
        finally:
            if self._pending:
                self._call(handlers)

    def _note(self, *received: Any) -> None:
        self._pending.append(received)

    def _restore(self) -> None:
        """Put all handlers back, also if one that is back already raises: that of SIGINT last."""
        try:
            for number in reversed(self._replaced.copy()):
                signal(number, self._replaced[number])
                del self._replaced[number]
        except BaseException:
            self._restore()
            raise

    def _call(self, handlers: dict[int, Any]) -> None:
        """Call the handlers of the signals that came, each of them, whatever they raise."""
        while self._pending:
            number, frame = self._pending.pop(0)
            try:
                if callable(handlers[number]):
                    handlers[number](number, frame)
                else:
                    os.kill(os.getpid(), number)
            except BaseException:
                self._call(handlers)
                raise


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
