"""Opening a store: what it is opened with, what is there, and what fits it."""

import json
from datetime import UTC, datetime
from typing import Any

from tensorstate_gpu.errors import NoStore
from tensorstate_gpu.store.closing_at_exit import finish_closing
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.folder import Folder
from tensorstate_gpu.store.record import KEY, Record


def read_record(files: Files) -> Record:
    """What is committed; ValueError where there is no store, or a damaged one."""
    try:
        data = files.read(KEY)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NoStore(f"{files} holds no captured states{_why(files)}") from error
    return Record.from_bytes(data, str(files))


def _why(files: Files) -> str:
    if not isinstance(files, Folder) or files.path.is_dir():
        return ""
    return ": it is a file" if files.path.exists() else ": there is no such folder"


def begin(files: Files, *, go_on: bool) -> Record:
    """Claim the files; the record to go on from, which is an empty one for a new store."""
    finish_closing(files)
    _look(files, go_on)  # what is no store is not claimed
    files.claim()
    try:
        found = _look(files, go_on)  # another writer may have been there meanwhile
        return _new_record(files) if found is None else found
    except BaseException:
        files.release()
        raise


def _look(files: Files, go_on: bool) -> Record | None:
    if not files.is_taken():
        return None
    if not go_on:
        raise ValueError(f"{files} exists and is not empty; it is not overwritten")
    return read_record(files)


def _new_record(files: Files) -> Record:
    from tensorstate_gpu._version import __version__

    record = Record(__version__, datetime.now(UTC).isoformat(timespec="seconds"))
    files.write(KEY, record.to_bytes())
    files.sync()
    return record


def check_same(what: str, new: dict[str, Any], found: dict[str, Any]) -> None:
    """ValueError when a layer is to be captured in another way than it was."""
    for key, value in json.loads(json.dumps(new)).items():
        if key not in found or found[key] != value:
            raise ValueError(f"{what} was captured with {found}, not with {key} = {value}")
