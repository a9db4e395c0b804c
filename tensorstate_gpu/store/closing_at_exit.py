"""Closes the open writers of this process when the program ends."""

import concurrent.futures.thread  # noqa: F401 see the end of this file
import sys
import threading
import weakref
from typing import Protocol

from tensorstate_gpu.errors import StoreClosed, warn_user
from tensorstate_gpu.store.files import Files


class ClosableWriter(Protocol):
    """A writer of a store; WriterLife implements it."""

    files: Files
    is_closing: bool  # no longer referenced, and still writing in the background

    def close(self, *, at_exit: bool = False) -> None:
        """Commit the remaining rows. With ``at_exit``, discard rows that cannot be written."""


def register_for_exit(writer: ClosableWriter) -> None:
    """Close the writer when the program ends, unless it was collected before."""
    _open_writers.add(writer)


def forget_writers() -> None:
    """Close no writer when the program ends: it ends because they cannot write, which it tells."""
    _open_writers.clear()


def wait_for_closing_writers(files: Files) -> None:
    """Wait for writers of this process that still close the same files in the background.

    One whose files were deleted ends, with a warning: what it has can never be written.
    """
    for writer in list(_open_writers):
        if not writer.is_closing or str(writer.files) != str(files):
            continue
        if writer.files.exists():
            writer.close()
        else:
            _end_without_files(writer)


def _end_without_files(writer: ClosableWriter) -> None:
    try:
        writer.close(at_exit=True)
    except (FileNotFoundError, StoreClosed):
        _open_writers.discard(writer)
        warn_user(f"{_NOT_WRITTEN}: {writer.files} was deleted")


_NOT_WRITTEN = "captured states could not be written"
_open_writers: "weakref.WeakSet[ClosableWriter]" = weakref.WeakSet()


def _close_all() -> None:
    problems = []
    for writer in list(_open_writers):
        try:
            writer.close(at_exit=True)
        except BaseException as error:  # continue with the other stores
            if isinstance(error, FileNotFoundError) or not writer.files.exists():
                print(f"{_NOT_WRITTEN}: {writer.files} was deleted", file=sys.stderr)
            else:
                problems.append(error)
    if problems:
        # Print the error; raising it would stop the rest of Python's exit, such as joining threads.
        error_group = BaseExceptionGroup(_NOT_WRITTEN, problems)
        sys.excepthook(type(error_group), error_group, None)


# zarr encodes with executors. An exit hook of concurrent.futures.thread, registered at its import
# above, shuts them down. Hooks run in reverse order, so this one runs before.
threading._register_atexit(_close_all)  # type: ignore[attr-defined]
