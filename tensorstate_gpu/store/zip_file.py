"""A store as one zip file, not compressed again, which zarr.storage.ZipStore reads."""

import dataclasses
import zipfile
from typing import Any

from tensorstate_gpu._process.new_files import new_file
from tensorstate_gpu._process.progress import Progress
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.keys import LABELS
from tensorstate_gpu.store.record import KEY, Record, group_document, sealed
from tensorstate_gpu.store.verification import CommittedArray, committed_arrays


def write_zip(files: Files, record: Record, path: Any, progress: Progress | None = None) -> None:
    """Write what a record lists, and nothing else, to a new file; see Store.to_zip()."""
    arrays = committed_arrays(files, record)
    total = sum(len(array.committed.checksums) for array in arrays)
    done = 0
    with new_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, KEY, record.to_bytes())
        if record.has_labels:
            _add(archive, f"{LABELS}/{KEY}", group_document({}))
        for array in arrays:
            _add(archive, array.document_key, _document(array))
            for index in range(len(array.committed.checksums)):
                _add(archive, array.chunk_key(index), array.chunk(index))
                done += 1
                if progress is not None:
                    progress(done, total)


def of_layers(record: Record, names: list[str]) -> Record:
    """The record of a store that has only these layers."""
    return dataclasses.replace(record, layers={name: record.layers[name] for name in names})


def _document(array: CommittedArray) -> bytes:
    # Its shape follows the record: it lags where a writer was killed, and runs ahead of our record
    # where one goes on.
    document = array.document()
    shape = [array.committed.rows, *document["shape"][1:]]
    return sealed({**document, "shape": shape})


def _add(archive: zipfile.ZipFile, key: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(key)  # of 1980: the same store gives the same bytes
    entry.external_attr = 0o644 << 16  # else nobody may read it once it is extracted
    archive.writestr(entry, data)
