"""Opens the store of a command."""

import argparse
from pathlib import Path

from tensorstate_gpu.errors import UnfinishedStore
from tensorstate_gpu.store import Store, Stores, open_stores
from tensorstate_gpu.store.documents import KEY
from tensorstate_gpu.store.files import files_at
from tensorstate_gpu.store.folder import Folder
from tensorstate_gpu.store.store_patterns import matching_paths
from tensorstate_gpu.store.stored_rows import StoredRows

STATES, RESULTS = "states.zarr", "results.json"  # in the folder that demo --save writes


def open_store(options: argparse.Namespace) -> tuple[Store | Stores, Path | None]:
    """Open the store of a command, or its stores as one. For a saved demo, also return its results.

    Of several stores, unfinished ones are read if ``--unfinished`` or the command accepts them.
    """
    paths = stores_of(options)
    if paths == options.stores[:1]:
        return open_one(paths[0])
    try:
        return open_stores(paths, unfinished=options.unfinished), None
    except UnfinishedStore as error:
        error.add_note("as an option: --unfinished accept")
        raise


def stores_of(options: argparse.Namespace) -> list[str]:
    """Return the paths and URLs of a command's stores, with all that match its patterns."""
    given: list[str] = options.stores
    return [str(found) for each in given for found in matching_paths(each)]


def open_one(path: str) -> tuple[Store, Path | None]:
    """Open the store at a path. For a saved demo, also return its results."""
    files = files_at(path)
    if isinstance(files, Folder):
        folder = files.path
        if not (folder / KEY).exists() and (folder / STATES).exists():
            return Store(folder / STATES), folder / RESULTS
    return Store(path), None


def only_layer(store: Store | Stores, name: str | None) -> StoredRows:
    """Return a layer by its name, or the only one. Raises ValueError if there is no such layer."""
    if not len(store):
        raise ValueError(f"{store} holds no rows")
    if name is None and len(store) != 1:
        raise ValueError(f"{store} has the layers {store.names}: --layer says which")
    return layer_named(store, store.names[0] if name is None else name)


def layer_named(store: Store | Stores, name: str) -> StoredRows:
    """Return a layer by its name or that of its states. Raises ValueError if there is none."""
    try:
        return store[name]
    except KeyError as error:
        raise ValueError(error.args[0]) from error
