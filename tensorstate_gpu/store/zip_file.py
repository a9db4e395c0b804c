"""Writes a store as one uncompressed zip file, which zarr.storage.ZipStore reads."""

import dataclasses
import zipfile
from typing import Any

from tensorstate_gpu._arguments import function
from tensorstate_gpu._process.new_files import new_file
from tensorstate_gpu._process.progress import ProgressCallback
from tensorstate_gpu.store.commit_record import Record
from tensorstate_gpu.store.documents import KEY, group_document, with_checksum
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.verification import CommittedArray, committed_arrays


def write_zip(
    files: Files, record: Record, path: Any, progress: ProgressCallback | None = None
) -> None:
    """Write what a record lists, and nothing else, to a new file; see Store.to_zip()."""
    function(progress, "progress")
    arrays = committed_arrays(files, record)
    total = sum(len(array.committed.checksums) for array in arrays)
    done = 0
    with new_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, KEY, record.to_bytes())
        for group in record.groups:
            _add(archive, f"{group}/{KEY}", group_document({}))
        for array in arrays:
            _add(archive, array.document_key, _document(array))
            for index in range(len(array.committed.checksums)):
                _add(archive, array.chunk_key(index), array.chunk(index))
                done += 1
                if progress is not None:
                    progress(done, total)


def select_layers(record: Record, names: list[str]) -> Record:
    """Return a record with only these layers."""
    return dataclasses.replace(record, layers={name: record.layers[name] for name in names})


def _document(array: CommittedArray) -> bytes:
    # Set the shape to that of the record. It may be smaller, after a writer was killed, or larger,
    # while a capture is running.
    document = array.document()
    shape = [array.committed.rows, *document["shape"][1:]]
    return with_checksum({**document, "shape": shape})


def _add(archive: zipfile.ZipFile, key: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(key)  # dated 1980, so that equal stores produce equal bytes
    entry.external_attr = 0o644 << 16  # the default would make extracted files unreadable
    archive.writestr(entry, data)
