"""open_stores(): finds several stores, checks that they belong together, and reads them as one."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from tensorstate_gpu._arguments import choice, is_iterable
from tensorstate_gpu.errors import NoStore, UnfinishedStore
from tensorstate_gpu.store.joinable import check_joinable
from tensorstate_gpu.store.store import Store
from tensorstate_gpu.store.store_patterns import matching_paths
from tensorstate_gpu.store.stores import Stores, listed

_OPENED_AT_ONCE = 16  # hides the latency of an object store

Unfinished = Literal["refuse", "accept"]


def open_stores(stores: object, *, unfinished: Unfinished = "refuse") -> Stores:
    """Open several stores, such as those of the ranks of a job, and read them as one.

    Parameters
    ----------
    stores : str or path, or a series of them
        The paths or URLs of stores, in the order in which they are read; each may be a pattern:
        ``"run-*.zarr"`` has the stores that match in the order of their names. In a URL, only the
        last part may be one. Also `Store` objects and obstore stores.
    unfinished : "refuse" or "accept"
        What to do with a store whose writer is at work, or was killed. "accept" reads what it has
        committed, and reports name the store. What older versions wrote does not say whether it is
        finished; it is read, and reports say so.

    Returns
    -------
    Stores
        It shows what is committed now. Only commit records are read, until rows are needed.

    Raises
    ------
    NoStore
        A path has no store, or a pattern matches none.
    UnfinishedStore
        A store is not finished. The message names it.
    StoresDisagree
        The stores have other layers, neurons or rules of firing; some have labels, and others have
        none; or one is there twice, also as a copy. All of these errors are ValueErrors.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstate_gpu as ts
    >>> for rank in range(2):
    ...     with ts.Store(f"memory://ranks-{rank}", "x") as store:
    ...         point = ts.CapturePoint("layer", store)
    ...         point.declare(neurons=2)
    ...         point.append(np.array([[1], [rank]], np.uint8), instances=2)
    >>> every = ts.open_stores("memory://ranks-*")
    >>> every["layer"].counts()
    array([1, 3])
    """
    choice(unfinished, "unfinished", ("refuse", "accept"))
    places = [place for given in _each(stores) for place in matching_paths(given)]
    if not places:
        raise NoStore("no stores were given")
    with ThreadPoolExecutor(min(_OPENED_AT_ONCE, len(places)), "tensorstate opener") as threads:
        opened = list(threads.map(_opened, places))
    check_joinable(opened)
    found = Stores(opened)
    if found.unfinished and unfinished == "refuse":
        raise UnfinishedStore(
            f"{len(found.unfinished)} of {len(opened)} stores are not finished: a writer is at "
            f"work, was killed, or has ended without close(): {listed(found.unfinished)}. "
            "unfinished='accept' reads what they have committed"
        )
    return found


def _each(stores: object) -> Iterable[object]:
    if isinstance(stores, Stores):
        return stores.parts
    if isinstance(stores, (str, os.PathLike, Store)) or not is_iterable(stores):
        return [stores]
    return [part for given in stores for part in _each(given)]


def _opened(place: object) -> Store:
    return place if isinstance(place, Store) else Store(place)
