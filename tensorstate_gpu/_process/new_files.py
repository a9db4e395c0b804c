"""Files and folders that get their name when they are whole, and replace nothing."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO


@contextlib.contextmanager
def new_file(path: Any) -> Iterator[BinaryIO]:
    """A file to write. At the end of the block it takes its name; after an exception it is gone.

    TypeError or ValueError for what is no local path, and where there is something already; OSError
    when it cannot be written.
    """
    with _named_at_the_end(path) as partial, open(partial, "xb") as file:
        yield file


@contextlib.contextmanager
def new_folder(path: Any) -> Iterator[Path]:
    """A folder to fill, as new_file(); yields where it is until the end of the block."""
    with _named_at_the_end(path) as partial:
        partial.mkdir()
        yield partial


@contextlib.contextmanager
def _named_at_the_end(path: Any) -> Iterator[Path]:
    target = _local(path)
    _refuse_existing(target)
    partial = target.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        yield partial
        _refuse_existing(target)  # it may have come meanwhile
        os.replace(partial, target)
    except BaseException as error:
        if isinstance(error, OSError):
            _name(error, partial, target)
        _remove(partial)
        raise


def _name(error: OSError, partial: Path, target: Path) -> None:
    """Let an error name what the user knows; a failed write to an open file names nothing."""
    if error.filename is None and error.errno is not None:
        error.filename = str(target)
    elif str(error.filename).startswith(str(partial)):
        error.filename = str(error.filename).replace(str(partial), str(target), 1)


def _local(path: Any) -> Path:
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise TypeError(f"path must be a str or a path, got {type(path).__name__}")
    if not text or "://" in text:
        raise ValueError(f"path must be a local one, got {text!r}")
    return Path(os.path.abspath(text))


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise ValueError(f"{target} exists; it is not overwritten")


def _remove(partial: Path) -> None:
    with contextlib.suppress(OSError):
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)
