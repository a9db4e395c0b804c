"""SharedSetting: a setting of the whole process, changed while some of its threads need that."""

import os
import threading
import weakref
from abc import ABC, abstractmethod

from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu._process.interrupts import deferred_interrupts


class SharedSetting(ABC):
    """A setting of the whole process that is changed as long as it has a user.

    A user is an object that belongs to the thread which begins with it. It ends its use, or ceases
    to exist: a thread may be over before it ends anything, as after sys.exit(). A forked process
    keeps the users of the thread that has forked, which is the only one there.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._threads: dict[int, int] = {}  # of the users, by their id
        _settings.add(self)

    def begin(self, user: object) -> bool:
        """Change the setting, if nobody has. Return False where that is not possible now."""
        weakref.finalize(user, self._leave, id(user)).atexit = False
        with self._lock, deferred_interrupts():
            self._threads[id(user)] = threading.get_ident()
            if self._change():
                return True
            del self._threads[id(user)]
            return False

    def end(self, user: object) -> None:
        """Put the setting back, if nobody else uses it."""
        self._leave(id(user))

    def _leave(self, key: int) -> None:
        with self._lock, deferred_interrupts():
            if self._threads.pop(key, None) is not None and not self._threads:
                self._restore()

    def keep_this_thread(self) -> None:
        """Forget the users of other threads."""
        here = threading.get_ident()
        for key in [key for key, thread in self._threads.items() if thread != here]:
            self._leave(key)

    @property
    def is_used_here(self) -> bool:
        """Whether a user belongs to this thread."""
        return threading.get_ident() in self._threads.values()

    @abstractmethod
    def _change(self) -> bool:
        """Change the setting, unless it is changed. Return False where that is not possible."""

    @abstractmethod
    def _restore(self) -> None:
        """Put the setting back."""


_settings: "weakref.WeakSet[SharedSetting]" = weakref.WeakSet()


def _reset_after_fork() -> None:
    for setting in _settings:
        setting.keep_this_thread()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
