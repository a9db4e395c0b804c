"""Creates files and folders that get their name when complete, and overwrites only if told to."""

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO


def check_new(path: object, *, overwrite: bool | None = None) -> None:
    """Raise what new_file() would raise for a path, as far as it is known before work starts."""
    _target(path, overwrite)


@contextlib.contextmanager
def new_file(path: Any, *, overwrite: bool | None = None) -> Iterator[BinaryIO]:
    """Create a file: it gets its name at the end of the block, and is deleted after an exception.

    ``overwrite``: in place of one that is there, or that a link leads to, with its permissions; it
    stays if that fails. None if the caller has no such parameter: else errors name it. Raises
    TypeError or ValueError if the path is not a local one, or exists, and OSError if the file
    cannot be written.
    """
    with _renamed_on_success(path, overwrite) as partial, open(partial, "xb") as file:
        yield file


@contextlib.contextmanager
def new_folder(path: Any) -> Iterator[Path]:
    """Like new_file(), but create a folder; yields its temporary path."""
    with _renamed_on_success(path) as partial:
        partial.mkdir()
        yield partial


@contextlib.contextmanager
def _renamed_on_success(path: Any, overwrite: bool | None = None) -> Iterator[Path]:
    """Yield a path beside this one; what is there gets this name at the end, or is deleted."""
    target = _target(path, overwrite)
    partial = target.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        yield partial
        _raise_if_in_the_way(target, overwrite)  # it may have been created in the meantime
        if target.is_file():
            shutil.copymode(target, partial)
        os.replace(partial, target)
    except BaseException as error:
        if isinstance(error, OSError):
            show_target_in(error, partial, target)
            if str(error.filename).startswith(str(target)):  # else reading has failed
                note_unwritten(error)
        _delete_partial(partial)
        raise


def show_target_in(error: OSError, partial: Path, target: Path) -> None:
    """Make an error name a file instead of its temporary one, which the user does not know.

    The error of a failed write to an open file names no file at all.
    """
    if error.filename is None and error.errno is not None:
        error.filename = str(target)
    elif str(error.filename).startswith(str(partial)):
        error.filename = str(error.filename).replace(str(partial), str(target), 1)


def _unwritten(code: int, target: Path, why: str) -> OSError:
    error = OSError(code, os.strerror(code), str(target))
    note_unwritten(error, why)
    return error


def note_unwritten(error: OSError, why: str = "") -> None:
    """Let an error say that its file could not be written: its own text is that of reading, too."""
    note = f"it could not be written{': ' if why else ''}{why}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def _local_path(path: Any) -> Path:
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise TypeError(f"path must be a str or a path, got {type(path).__name__}")
    if not text or "://" in text:
        raise ValueError(f"path must be a local one, got {text!r}")
    return Path(os.path.abspath(os.path.expanduser(text)))


def _target(path: Any, overwrite: bool | None) -> Path:
    """Return where a file is to be: not in the place of a link, if its file is replaced."""
    target = _local_path(path)
    if overwrite:
        target = Path(os.path.realpath(target))
    _raise_if_in_the_way(target, overwrite)
    _raise_if_unwritable(target)
    return target


def _raise_if_unwritable(target: Path) -> None:
    folder = target.parent
    if not folder.exists():
        raise _unwritten(errno.ENOENT, target, f"there is no folder {folder}")
    if not folder.is_dir():
        raise _unwritten(errno.ENOTDIR, target, f"{folder} is no folder")
    if not os.access(folder, os.W_OK):
        raise _unwritten(errno.EACCES, target, f"the folder {folder} is read-only")


def _raise_if_in_the_way(target: Path, overwrite: bool | None) -> None:
    if overwrite and target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if overwrite and target.exists() and not target.is_file():  # such as /dev/null
        raise ValueError(f"{target} is no file, but a device or pipe; it is not replaced")
    if not overwrite and os.path.lexists(target):
        is_offered = overwrite is not None and target.is_file()
        hint = " (overwrite=True would replace it)" if is_offered else ""
        raise ValueError(f"{target} exists; it is not overwritten{hint}")


def _delete_partial(partial: Path) -> None:
    with contextlib.suppress(OSError):
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)
