"""Locks that survive a fork: a child gets them free, whichever thread of its parent held them."""

import os
import weakref
from _thread import RLock


class ForkSafeLock(RLock):  # type: ignore[misc]
    """A reentrant lock for ``with``. A forked child has one thread, so nobody holds it there.

    Its ``__enter__`` and ``__exit__`` are C: Ctrl-C cannot come between taking and holding it.
    """

    def __init__(self) -> None:
        _locks.add(self)


_locks: "weakref.WeakSet[ForkSafeLock]" = weakref.WeakSet()


def _renew_all() -> None:
    for lock in _locks:
        lock._at_fork_reinit()  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
