"""Compiles kernels: at their first call, to run without the GIL, cached on disk if possible.

Numba stores the cache next to the code or in the user's cache folder. It raises an error if it can
write to neither (a read-only installation, no home folder). In that case Numba is given a folder of
this user in the temporary folder. Without that too, every process compiles again.

Numba notices when the file of a kernel has changed, but not when another has from which the kernel
imports. So the name of what is cached contains a hash of all of them: a folder that is kept through
an upgrade, or copied to another version, never gives the code of older kernels.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numba
import numpy as np
from numba import njit, types
from numba.core.ccallback import CFunc
from numpy.typing import NDArray

from tensorstate_gpu._arrays.firing_function import check_compiler

_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T", bound=np.generic)


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


def _hash_of_sources() -> str:
    """Hash the files of this package, which are all that a cached kernel is made of."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


check_compiler()
_CACHE = _can_cache()
_HASH = _hash_of_sources()
_kernels: list[Any] = []
_c_functions: list[Any] = []
_LOCK = "tensorstate_gpu.lock"  # a file in each folder of the cache


def kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile a function to machine code that runs without the GIL."""
    compiled = njit(nogil=True)(function)
    _register(compiled, function)
    return compiled


def inlined(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Like kernel(), but copy the body into each kernel that calls the function."""
    compiled = njit(nogil=True, inline="always")(function)
    _register(compiled, function)
    return compiled


def c_function(function: Callable[[Any], None]) -> int:
    """Compile a function of an address to one that C can call, and return where it is.

    It must not raise an exception that its caller has to know of.
    """
    compiled = CFunc(function, ((types.int64,), types.void), {}, {"nopython": True})
    _c_functions.append(compiled)
    _let_cache(compiled, function)
    compiled.compile()
    return int(compiled.address)


def _register(dispatcher: Any, function: Callable[..., Any]) -> None:
    _kernels.append(dispatcher)
    _let_cache(dispatcher, function)


def _let_cache(dispatcher: Any, function: Callable[..., Any]) -> None:
    """Let Numba cache a kernel, in files with the hash of all sources in their names."""
    if _CACHE:
        name = function.__qualname__
        function.__qualname__ = f"{name}-{_HASH}"  # Numba takes the names of files from it
        dispatcher.enable_caching()
        function.__qualname__ = name
        _save_one_at_a_time(dispatcher._cache)


def _save_one_at_a_time(cache: Any) -> None:
    """Let processes wait for each other when they save what they have compiled.

    Numba chooses the name of a file, writes the index, and then the file. Two processes that save
    code for different types at the same moment would choose the same name, and later ones would
    run the code of one for the types of the other.
    """
    save = cache.save_overload

    def save_alone(*arguments: Any) -> None:
        with _locked(cache.cache_path):
            save(*arguments)

    cache.save_overload = save_alone


@contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Lock a folder, which may not exist yet, for this process; nothing where that cannot be done.

    Numba itself lets one thread compile and save at a time. A forked child does not have the lock.
    """
    with ExitStack() as stack:
        with suppress(OSError, ImportError):  # a folder that nobody may write to; Windows
            import fcntl

            os.makedirs(folder, exist_ok=True)
            file = stack.enter_context(open(os.path.join(folder, _LOCK), "a"))
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def read_only(array: NDArray[_T]) -> NDArray[_T]:
    """Return a read-only view, for kernels that get both kinds: one compiles anew for each."""
    view = array.view()
    view.flags.writeable = False
    return view


def cache_use() -> tuple[int, int, set[Path]]:
    """Return how many kernels were loaded from the cache, how many compiled, and its folders."""
    used = [kernel.stats for kernel in _kernels]
    found = sum(function.cache_hits for function in _c_functions)
    loaded = sum(sum(stats.cache_hits.values()) for stats in used) + found
    compiled = sum(sum(stats.cache_misses.values()) for stats in used) + len(_c_functions) - found
    return loaded, compiled, {Path(stats.cache_path) for stats in used if stats.cache_path}
