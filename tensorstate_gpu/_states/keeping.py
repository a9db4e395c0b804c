"""Where counts are kept on disk: the package says, for stores are above this layer."""

import os
from collections.abc import Callable
from typing import Any, Protocol

from tensorstate_gpu._process.progress import ProgressCallback

Path = str | os.PathLike[str]


class Keeper(Protocol):
    """What a store of counts offers to those below it."""

    def check_place(self, path: Path) -> object: ...

    def write_counts(
        self,
        path: Path,
        counts: Any,
        *,
        rows: int | None = None,
        progress: ProgressCallback | None,
    ) -> Any:
        """Write StoredCounts to a path; return them there. ``rows``: how many were counted."""


_find: list[Callable[[], Any]] = []


def keep_in(find: Callable[[], Any]) -> None:
    """Let ``find`` import the Keeper, when counts are kept for the first time."""
    _find[:] = [find]


def keeper() -> Keeper:
    found: Keeper = _find[0]()
    return found
