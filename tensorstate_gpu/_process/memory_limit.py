"""The working memory of counting: beyond it, counts go to temporary files."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from time import monotonic

from tensorstate_gpu._arguments import integer

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

LEAST = 64 << 20  # what a sort of one batch and the merge of many runs need
_SHARE = 0.6  # of the memory of the machine, or of the container
_UNKNOWN = 4 << 30  # where the system does not tell how much memory there is
_PROC, _CONTROL_GROUPS = Path("/proc"), Path("/sys/fs/cgroup")

_SECONDS_KEPT = 1.0  # of what control groups tell

_chosen: int | None = None
_last_found: tuple[float, list[int]] | None = None  # of control groups: when, and their limits
_of_task: ContextVar[int | None] = ContextVar("_of_task", default=None)


def get_memory_limit() -> int:
    """Return how many bytes counting may use before it goes on in temporary files.

    This is the limit given to set_memory_limit(), or else the environment variable
    TENSORSTATE_MEMORY_LIMIT, or else 0.6 of the memory of this machine, of its control group (the
    limit of a container), or of what `ulimit -v` still lets this process map. Raises ValueError if
    the variable is not a size of 64 MiB or more.
    """
    limit = explicit_memory_limit()
    return int(_SHARE * _memory()) if limit is None else limit


def set_memory_limit(limit: int | str | None) -> None:
    """Set how much memory counting may use: bytes, or text such as "2GB" or "512 MiB".

    None restores the default. Counts that need more are sorted in temporary files without a name
    (in the folder that ``tempfile.gettempdir()`` returns), and measured from there. A limit also
    bounds results: a StateCounts that is larger raises MemoryError. Without one, results are
    bounded by the memory of the machine.

    Raises TypeError or ValueError for what is not a size of at least 64 MiB.

    Examples
    --------
    >>> set_memory_limit("2GB")
    >>> get_memory_limit()
    2000000000
    >>> set_memory_limit(None)
    """
    global _chosen
    _chosen = None if limit is None else _size(limit, "limit")


def explicit_memory_limit() -> int | None:
    """Return the limit that the user has set, in the program or by the environment."""
    if _chosen is not None:
        return _chosen
    text = os.environ.get("TENSORSTATE_MEMORY_LIMIT")
    return _size(text, "TENSORSTATE_MEMORY_LIMIT") if text else None


@contextmanager
def memory_of_task(size: int) -> Iterator[None]:
    """Let counting in this block, in this thread, use so many bytes at most, and LEAST at least.

    Several tasks may share a process. Unlike a limit that was set, it does not bound results.
    """
    token = _of_task.set(max(LEAST, size))
    try:
        yield
    finally:
        _of_task.reset(token)


def working_memory() -> int:
    """Return how many bytes of arrays keep the process at the limit, or 150 MB above.

    The interpreter with NumPy, Numba and zarr takes 210 MB, and freed memory is not all returned at
    once.
    """
    limit, of_task = get_memory_limit(), _of_task.get()
    limit = limit if of_task is None else min(limit, of_task)
    return limit - min(limit * 5 // 8, 128 << 20)


def _size(limit: int | str, name: str) -> int:
    size = _parsed(limit, name) if isinstance(limit, str) else integer(limit, name)
    if size < LEAST:
        raise ValueError(f"{name} must be at least 64 MiB ({LEAST:,} bytes), got {limit!r}")
    return size


def _parsed(text: str, name: str) -> int:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if found is None or (found[3] and not found[2]):
        raise ValueError(f'{name} must be a size such as "2GB" or "512 MiB", got {text!r}')
    unit = (1024 if found[3] else 1000) ** " kmgt".index(found[2] or " ")
    return int(float(found[1]) * unit)


def _memory() -> int:
    """Return the bytes that this process may have at most, by the machine or another limit."""
    limits = (_of_machine(), _of_address_space(), *_of_control_groups())
    return min((size for size in limits if size is not None), default=_UNKNOWN)


def _of_machine() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        return None


def _of_address_space() -> int | None:
    """Return what this process may still map, if that is limited, but enough for LEAST.

    Some job schedulers limit jobs so. Libraries map more than they use.
    """
    if resource is None:
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY:
        return None
    try:
        pages = int((_PROC / "self/statm").read_text().split()[0])
    except OSError:  # not Linux
        return int(most)
    return max(2 * LEAST, most - pages * resource.getpagesize())


def _of_control_groups() -> list[int]:
    """Return the limits of the control groups that this process is in, a second old at most.

    A report of thousands of layers asks for them at each layer, and they are a dozen files.
    """
    global _last_found
    now, found = monotonic(), _last_found
    if found is None or not 0 <= now - found[0] < _SECONDS_KEPT:
        _last_found = found = now, _read_control_groups()
    return found[1]


def _read_control_groups() -> list[int]:
    """Read the limits of the control groups, of version 2 and 1."""
    try:
        lines = (_PROC / "self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        base = _CONTROL_GROUPS / controllers
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        group = base / path.lstrip("/")
        # In a container, the path may be one of the host, which is not visible inside.
        folders = {base, group, *(each for each in group.parents if each.is_relative_to(base))}
        found += [size for folder in folders if (size := _number_in(folder / name)) is not None]
    return found


def _number_in(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None  # "max": no limit
