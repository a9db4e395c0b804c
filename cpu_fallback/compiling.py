"""How kernels are compiled: at their first call, without the GIL, cached on disk where possible.

Numba keeps the cache beside the code or in the user's cache folder, and refuses to compile where it
can write to neither (a read-only install, no home). There we offer it a folder of this user's among
the temporary files; without even that, each process compiles anew.
"""

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import numba
from numba import njit

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _probe() -> None:
    """Never called: it only asks Numba for a place to cache."""


def _can_cache() -> bool:
    for folder in (None, _temporary_folder):
        try:
            if folder is not None:
                numba.config.CACHE_DIR = folder()
            njit(cache=True)(_probe)
        except (OSError, RuntimeError):
            continue
        return True
    return False


def _temporary_folder() -> str:
    """A folder that only this user can write: cached code is run as it is found."""
    user = os.getuid() if hasattr(os, "getuid") else ""
    folder = Path(tempfile.gettempdir()) / f"tensorstate_gpu-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.stat(follow_symlinks=False)
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o022
    if user != "" and not (private and found.st_uid == user):
        raise OSError(f"{folder} is not this user's own")
    return str(folder)


_CACHE = _can_cache()


def kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile to machine code that runs without the GIL."""
    return njit(nogil=True, cache=_CACHE)(function)


def inlined(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """As kernel, its body copied into each kernel that calls it."""
    return njit(nogil=True, cache=_CACHE, inline="always")(function)
