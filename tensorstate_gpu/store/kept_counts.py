"""Stores of counts: a histogram as a zarr v3 group, with the checksums of a store of states.

The arrays are those of a sorted run (kept_runs.py). The record, an attribute of the group, is
written last: without it there are no counts.
"""

import base64
import dataclasses
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._process.new_files import new_folder
from tensorstate_gpu._states.stored_counts import StoredCounts, runs_of
from tensorstate_gpu._states.tallies import Tally
from tensorstate_gpu._version import __version__
from tensorstate_gpu.errors import NoStore, UnknownFormat
from tensorstate_gpu.store.array_record import ArrayRecord
from tensorstate_gpu.store.commit_record import KEY, check_document, group_document
from tensorstate_gpu.store.files import Files, files_at
from tensorstate_gpu.store.folder import Folder
from tensorstate_gpu.store.kept_runs import KeptRun, write_run

FORMAT = 1
ATTRIBUTE = "tensorstate_counts"


@dataclasses.dataclass(frozen=True, slots=True)
class CountsRecord:
    """What a store of counts contains. ``most``: no count is greater."""

    neurons: int
    most: int
    tally: Tally
    arrays: dict[str, ArrayRecord]

    def to_bytes(self) -> bytes:
        occurrences, states = (_encoded(part) for part in self.tally.arrays())
        about = {
            "format": FORMAT,
            "version": __version__,
            "neurons": self.neurons,
            "most": self.most,
            "occurrences": occurrences,
            "states_by_occurrence": states,
            "arrays": {name: array.to_json() for name, array in self.arrays.items()},
        }
        return group_document({ATTRIBUTE: about})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "CountsRecord":
        """Parse a record. Raises ValueError if it is none, of another format, or damaged."""
        try:
            about = json.loads(data)["attributes"][ATTRIBUTE]
        except (ValueError, KeyError, TypeError) as error:
            raise NoStore(f"{where} holds no counts") from error
        if about.get("format") != FORMAT:
            raise UnknownFormat(
                f"{where} has counts of format {about.get('format')}, this version reads {FORMAT}; "
                f"they were written by tensorstate_gpu {about.get('version')}"
            )
        check_document(data, f"{where}/{KEY}")
        tally = Tally.of(_decoded(about["occurrences"]), _decoded(about["states_by_occurrence"]))
        arrays = {name: ArrayRecord.from_json(each) for name, each in about["arrays"].items()}
        return cls(about["neurons"], about["most"], tally, arrays)


def _encoded(numbers: NDArray[np.int64]) -> str:
    return base64.b64encode(numbers.astype("<i8").tobytes()).decode()


def _decoded(text: str) -> NDArray[np.int64]:
    return np.frombuffer(base64.b64decode(text), "<i8").astype(np.int64)


def open_counts(path: Any) -> StoredCounts:
    """Return the counts that ``count_states(..., to=path)`` or ``StoredCounts.save`` has written.

    Parameters
    ----------
    path : str, path or obstore store
        As for `Store`.

    Returns
    -------
    StoredCounts
        It reads from there: keep the store as long as it is used.

    Raises
    ------
    TypeError, ValueError
        For a path that is none; NoStore, UnknownFormat or DamagedStore, which are ValueErrors.
    """
    files = files_at(path)
    try:
        data = files.read(KEY)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NoStore(f"{files} holds no counts") from error
    record = CountsRecord.from_bytes(data, str(files))
    run = KeptRun(files, "", row_bytes(record.neurons), record.most, record.arrays)
    return StoredCounts([run], record.neurons, record.tally)


def write_counts(path: Any, counts: StoredCounts) -> StoredCounts:
    """Write counts to a new store; see StoredCounts.save()."""
    files = files_at(path)
    if isinstance(files, Folder):
        with new_folder(files.path) as partial:
            _write(Folder(partial), counts)
        return open_counts(path)
    if files.has_content():
        raise ValueError(f"{files} exists; it is not overwritten")
    try:
        _write(files, counts)
    except BaseException:
        for key in files.list_sizes():
            files.delete(key)
        raise
    return open_counts(path)


def _write(files: Files, counts: StoredCounts) -> None:
    pieces = ((piece.packed, piece.counts) for piece in counts.pieces())
    run = write_run(files, "", row_bytes(counts.neurons), runs_of(counts), pieces)
    files.write(KEY, CountsRecord(counts.neurons, run.most, run.tally, run.arrays).to_bytes())
    files.sync()
