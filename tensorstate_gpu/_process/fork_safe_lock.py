"""ForkSafeLock: a lock that is always free in a forked child."""

import os
import weakref
from _thread import RLock


class ForkSafeLock(RLock):  # type: ignore[misc]
    """A reentrant lock for ``with``. In a forked child, which has one thread, it is free.

    A copy, or what a pickle gives, is a new lock.

    Its ``__enter__`` and ``__exit__`` are C functions, so Ctrl-C cannot interrupt them halfway.
    """

    def __init__(self) -> None:
        _locks.add(self)

    def __reduce__(self) -> tuple[type["ForkSafeLock"], tuple[()]]:
        return ForkSafeLock, ()


_locks: "weakref.WeakSet[ForkSafeLock]" = weakref.WeakSet()


def _reset_after_fork() -> None:
    for lock in _locks:
        lock._at_fork_reinit()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
