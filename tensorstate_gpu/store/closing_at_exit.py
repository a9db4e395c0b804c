"""Closes the open writers of this process when the program ends."""

import concurrent.futures.thread  # noqa: F401 see the end of this file
import contextlib
import gc
import io
import sys
import threading
import weakref
from typing import Any, Protocol

from tensorstate_gpu._warnings import warn_user
from tensorstate_gpu.errors import StoreClosed
from tensorstate_gpu.store.files import Files


class ClosableWriter(Protocol):
    """A writer of a store; WriterLife implements it."""

    files: Files
    is_closing: bool  # no longer referenced, and still writing in the background
    is_closed: bool

    def close(self, *, at_exit: bool = False) -> None:
        """Commit the remaining rows. With ``at_exit``, discard rows that cannot be written."""

    def what_is_kept(self) -> str:
        """Return what the store keeps of what was captured, for an error that loses the rest."""


def register_for_exit(writer: ClosableWriter) -> None:
    """Close the writer when the program ends, unless it was collected before."""
    _open_writers.add(writer)


def forget_writers() -> None:
    """Close no writer when the program ends: it ends because they cannot write, which it tells."""
    _open_writers.clear()


def wait_for_closing_writers(files: Files, *, collect: bool = False) -> None:
    """Wait for writers of this process that still close the same files in the background.

    One whose files were deleted ends, with a warning: what it has can never be written.
    ``collect``: also for one of a Store that nothing refers to but a cycle, as errors leave them.
    """
    for writer in [each for each in _open_writers if str(each.files) == str(files)]:
        if collect and not (writer.is_closing or writer.is_closed):
            gc.collect()
        if not writer.is_closing:
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


_TOLD = (OSError, MemoryError, StoreClosed, KeyboardInterrupt)  # a traceback says no more of these


def _close_all() -> None:
    loses_rows = False
    for writer in list(_open_writers):
        try:
            writer.close(at_exit=True)
        except BaseException as error:  # continue with the other stores
            is_deleted = isinstance(error, FileNotFoundError) or not writer.files.exists()
            loses_rows |= not is_deleted
            with contextlib.suppress(Exception):  # standard error is on the full disk, or closed
                _tell(error, writer, is_deleted)
    if loses_rows:
        _end_with_error()


def _tell(error: BaseException, writer: ClosableWriter, is_deleted: bool) -> None:
    """Print an error: raising it would stop the rest of Python's exit, such as joining threads."""
    if is_deleted:
        print(f"{_NOT_WRITTEN}: {writer.files} was deleted", file=sys.stderr)
        return
    told = f"{type(error).__name__}: {error}".rstrip(": ")
    print(f"{_NOT_WRITTEN}: {told}. {writer.what_is_kept()}", file=sys.stderr)
    if not isinstance(error, _TOLD):
        sys.excepthook(type(error), error, error.__traceback__)


def _end_with_error() -> None:
    """Let the program end with a status that tells of lost rows: 120, or that of its exception.

    os._exit() would lose what the program has written to files that it has not closed.
    """
    is_interactive = hasattr(sys, "ps1")  # its exceptions have not ended it
    if is_interactive or not hasattr(sys, "last_value"):
        sys.stderr = _Unwritable(sys.stderr or io.StringIO())


class _Unwritable:
    """A stream that Python's exit cannot flush: nothing else changes the status from there."""

    closed = False

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def flush(self) -> None:
        self._stream.flush()
        if sys._getframe().f_back is None:  # not called by any code
            raise OSError("captured states are lost")


# zarr encodes with executors. An exit hook of concurrent.futures.thread, registered at its import
# above, shuts them down. Hooks run in reverse order, so this one runs before.
threading._register_atexit(_close_all)  # type: ignore[attr-defined]
