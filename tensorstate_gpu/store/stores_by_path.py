"""The stores that this process writes, by their path: capture points of one path share one."""

import weakref
from typing import Any

from tensorstate_gpu._process.locks import ForkSafeLock
from tensorstate_gpu.store.files import files_at
from tensorstate_gpu.store.keys import state_key
from tensorstate_gpu.store.store import Store

_lock = ForkSafeLock()
_of_paths: "weakref.WeakValueDictionary[str, Store]" = weakref.WeakValueDictionary()


def store_for(path: Any, name: str) -> Store:
    """A Store for a layer: the one given, or the one that this process writes at a path.

    That is created at first use. TypeError or ValueError when the path or the name cannot be used;
    nothing is created then.
    """
    state_key(name)
    if isinstance(path, Store):
        path.session  # noqa: B018 raises where it is only read
        return path
    where = str(files_at(path))
    with _lock:
        store = _of_paths.get(where)
        if store is not None and not store.session.writer.life.is_open():
            store.session.writer.life.abandon()
            store = None
        if store is None:
            store = _of_paths[where] = Store(path, "x")
            store.session.of_path = True
        return store
