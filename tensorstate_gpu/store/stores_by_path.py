"""Stores opened by path: capture points with the same path share one store."""

import weakref
from typing import Any

from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu.store.files import files_at
from tensorstate_gpu.store.keys import state_key
from tensorstate_gpu.store.store import Store

_lock = ForkSafeLock()
_stores: "weakref.WeakValueDictionary[str, Store]" = weakref.WeakValueDictionary()


def store_for(path: Any, name: str) -> Store:
    """Return the store that a layer is captured into: the given Store, or a shared one for a path.

    A store is created when its path is used for the first time. Raises TypeError or ValueError for
    an invalid path or layer name; nothing is created then.
    """
    state_key(name)
    if isinstance(path, Store):
        path.session  # noqa: B018 raises an error if the store is read-only
        return path
    location = str(files_at(path))
    with _lock:
        store = _stores.get(location)
        if store is not None and not store.session.writer.life.is_open():
            if store.session.writer.life.is_deleted:
                store.session.writer.life.abandon()
            store = None
        if store is None:
            store = _stores[location] = Store(path, "x")
            store.session.created_from_path = True
        return store
