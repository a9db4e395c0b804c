"""The writers of this process that are open: they are closed when the program ends."""

import concurrent.futures.thread  # noqa: F401 see the end of this file
import sys
import threading
import weakref
from typing import Protocol

from tensorstate_gpu.store.files import Files


class Closing(Protocol):
    """A writer of a store."""

    files: Files
    closing: bool  # nobody uses it any more, and it is still writing

    def close(self, *, finally_: bool = False) -> None:
        """Commit what is left; ``finally_``: give up what cannot be written."""


def note(writer: Closing) -> None:
    """Close a writer when the program ends, if it is still there."""
    _open.add(writer)


def finish_closing(files: Files) -> None:
    """Wait for writers of the same files, in this process, that nobody uses any more."""
    for writer in list(_open):
        if writer.closing and str(writer.files) == str(files):
            writer.close()


_open: "weakref.WeakSet[Closing]" = weakref.WeakSet()


def _close_all() -> None:
    problems = []
    for writer in list(_open):
        try:
            writer.close(finally_=True)
        except BaseException as error:  # the other stores are written all the same
            problems.append(error)
    if problems:
        # Told, not raised: that would end what Python still has to do, such as joining threads.
        told = BaseExceptionGroup("captured states could not be written", problems)
        sys.excepthook(type(told), told, None)


# zarr encodes through executors, which end in a hook that concurrent.futures.thread registered when
# it was imported above. Hooks run in reverse order: this one in time.
threading._register_atexit(_close_all)  # type: ignore[attr-defined]
