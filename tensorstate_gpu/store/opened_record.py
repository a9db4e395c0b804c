"""Opening a store: reads its commit record, or creates the first one."""

import contextlib
import dataclasses
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu._version import __version__
from tensorstate_gpu.errors import NoStore
from tensorstate_gpu.store.closing_at_exit import wait_for_closing_writers
from tensorstate_gpu.store.commit_record import LayerRecord, Record
from tensorstate_gpu.store.documents import KEY
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.folder import Folder

Begun = TypeVar("Begun")


def read_record(files: Files) -> Record:
    """Read the commit record. Raises ValueError if there is no store or it is damaged."""
    try:
        data = files.read(KEY)
    except FileNotFoundError as error:
        raise NoStore(f"{files} holds no captured states{why_nothing_is_there(files)}") from error
    return Record.from_bytes(data, str(files))


def why_nothing_is_there(files: Files) -> str:
    """Return the end of a message that a folder has not what was expected, if it is none."""
    if not isinstance(files, Folder) or files.path.is_dir():
        return ""
    if zipfile.is_zipfile(files.path):
        return ": it is a zip file. Unpack it into a folder, and open that"
    return ": it is a file" if files.path.exists() else ": there is no such folder"


def claimed(files: Files, *, resume: bool, begin: Callable[[Record, bool | None], Begun]) -> Begun:
    """Acquire the write lock, and return what ``begin`` makes of the record to resume from.

    It gets a new record for a new store, and whether the store was closed, which the record then no
    longer says; False for a new one. If it fails, or Ctrl-C comes, the files are as they were.
    """
    wait_for_closing_writers(files, collect=True)
    _read_existing_record(files, resume)  # raises before anything is claimed
    files.claim()
    before: bytes | None = None
    ours: bytes | None = None
    try:
        # Read again: another writer may have come first.
        found = _read_existing_record(files, resume)
        before = None if found is None else files.read(KEY)
        record = _new_record() if found is None else found
        # Published at once: the run is at work again, and nobody else may write from now on.
        run, writer = record.run or uuid4().hex, uuid4().hex
        record = dataclasses.replace(record, closed=False, run=run, writer=writer)
        record = dataclasses.replace(record, format=record.written_format)
        ours = record.to_bytes()
        files.write(KEY, ours)
        files.sync()
        return begin(record, False if found is None else found.closed)
    except BaseException:
        with deferred_interrupts():  # a second Ctrl-C, too
            with contextlib.suppress(Exception):
                if ours is not None and files.read(KEY) == ours:  # not that of another writer
                    _put_back(files, before)
            files.delete_created_folders()
            files.release()
        raise


def _put_back(files: Files, record: bytes | None) -> None:
    """Let the record be what it was; None: there was none."""
    if record is None:
        files.delete(KEY)
    else:
        files.write(KEY, record)


def _read_existing_record(files: Files, resume: bool) -> Record | None:
    if not files.has_content():
        return None
    if not resume:
        raise ValueError(
            f"{files} exists and is not empty; it is not overwritten. Choose another path, or "
            'continue a store by Store(path, mode="a")'
        )
    return read_record(files)


def _new_record() -> Record:
    return Record(__version__, datetime.now(UTC).isoformat(timespec="seconds"))


def check_same_capture(what: str, new: dict[str, Any], committed: dict[str, Any]) -> None:
    """Raise ValueError if a layer is now captured with other options than before."""
    for key, value in json.loads(json.dumps(new)).items():
        if key not in committed or committed[key] != value:
            raise ValueError(f"{what} was captured with {committed}, not with {key} = {value}")


def check_same_keep(what: str, keep: str, groups: int | None, committed: LayerRecord) -> None:
    """Raise ValueError if a layer has kept something else before; counts, also by other groups."""
    if keep != committed.keep:
        raise ValueError(f'{what} was captured with keep="{committed.keep}", not keep="{keep}"')
    if keep == "counts" and groups != committed.groups:
        raise ValueError(f"{what} was captured with groups={committed.groups}, not groups={groups}")
