"""Paths and URLs of stores that match a pattern such as ``run-*.zarr``."""

import glob
import os
from collections.abc import Sequence
from fnmatch import fnmatchcase

from tensorstate_gpu.errors import NoStore
from tensorstate_gpu.store.files import files_at, names_in_memory

_WILDCARDS = "*?["


def matching_paths(path: object) -> Sequence[object]:
    """Return the places that a pattern matches, by name; any other path as it is.

    Raises NoStore if none match, and ValueError for a URL with a pattern before its last part.
    """
    if not isinstance(path, (str, os.PathLike)):
        return [path]
    text = os.fspath(path)
    if not isinstance(text, str) or not any(sign in text for sign in _WILDCARDS):
        return [path]
    if text.startswith("memory://"):
        found = [f"memory://{name}" for name in names_in_memory()]
        found = [url for url in found if fnmatchcase(url, text)]
    elif "://" in text:
        found = _urls(text)
    else:
        text = os.path.expanduser(text)
        found = [text] if os.path.exists(text) else glob.glob(text)
    if not found:
        raise NoStore(f"no store matches {text}")
    return sorted(found)


def _urls(pattern: str) -> list[str]:
    folder, _, name = pattern.rstrip("/").rpartition("/")
    if any(sign in folder for sign in _WILDCARDS):
        raise ValueError(f"only the last part of a URL may be a pattern, got {pattern}")
    return [
        f"{folder}/{each}" for each in files_at(folder).list_folders() if fnmatchcase(each, name)
    ]
