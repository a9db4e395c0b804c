"""Compiles kernels: at their first call, to run without the GIL, cached on disk if possible.

Numba stores the cache next to the code or in the user's cache folder. It raises an error if it can
write to neither (a read-only installation, no home folder). In that case Numba is given a folder of
this user in the temporary folder. Without that too, every process compiles again.
"""

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import numba
from numba import njit

from tensorstate_gpu._arrays.firing_function import check_compiler

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _probe() -> None:
    """Never called: compiling it shows whether Numba can cache."""


def _can_cache() -> bool:
    """Return whether Numba can cache, after setting a temporary folder if it needs one."""
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
    """Create a folder that only this user can write to: cached code is executed unchecked."""
    user = os.getuid() if hasattr(os, "getuid") else ""
    folder = Path(tempfile.gettempdir()) / f"tensorstate_gpu-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.stat(follow_symlinks=False)
    private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o022
    if user != "" and not (private and status.st_uid == user):
        raise OSError(f"{folder} is not this user's own")
    return str(folder)


check_compiler()
_CACHE = _can_cache()


def kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function to machine code that runs without the GIL."""
    return njit(nogil=True, cache=_CACHE)(function)


def inlined(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Like kernel(), but copy the body into each kernel that calls the function."""
    return njit(nogil=True, cache=_CACHE, inline="always")(function)
