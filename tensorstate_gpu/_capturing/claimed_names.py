"""Names that capture points claim in a store, when attaching them fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorstate_gpu.store.writing_session import WritingSession


@contextmanager
def released_if_it_fails(storage_path: Any) -> Iterator[None]:
    """Release the names that a block has claimed, if it fails.

    A capture point that was half made when memory ran out has one, and nobody else knows of it.
    Those that other threads claim meanwhile are theirs.
    """
    session = _session_of(storage_path)
    before = frozenset[str]() if session is None else session.claimed_here()
    try:
        yield
    except BaseException:
        if (session := _session_of(storage_path)) is not None:
            for name in session.claimed_here() - before:
                session.release_name(name)
        raise


def _session_of(storage_path: Any) -> "WritingSession | None":
    """Return the session of a store that captures write now; None if there is none."""
    if storage_path is None:
        return None
    from tensorstate_gpu.store.stores_by_path import open_store  # slow to import: zarr

    store = open_store(storage_path)
    return None if store is None else store.session
