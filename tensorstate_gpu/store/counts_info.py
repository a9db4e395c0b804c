"""Summary of stores of counts: their records, and the sizes of their files."""

from typing import Any

from tensorstate_gpu.store.files import files_at
from tensorstate_gpu.store.info import file_sizes
from tensorstate_gpu.store.kept_counts import find_record, range_paths


def describe_counts(path: str) -> list[dict[str, Any]]:
    """Return what is in the store of counts at a path, or in each range that is written there.

    Only records are read. ``bytes`` is None if the storage cannot list its files. Raises NoStore if
    there are no counts.
    """
    whole = _described(path)
    if whole is not None:
        return [whole]
    ranges = map(_described, range_paths(path))
    return [each for each in ranges if each is not None]


def _described(path: str) -> dict[str, Any] | None:
    files = files_at(path)
    record = find_record(files)
    if record is None:
        return None
    sizes = file_sizes(files)
    return {
        "path": str(files),
        "neurons": record.neurons,
        "states": record.tally.total,
        "distinct": record.tally.distinct,
        "share": None if record.share is None else str(record.share),
        "chunks": sum(len(array.checksums) for array in record.arrays.values()),
        "bytes": None if sizes is None else sum(sizes.values()),
    }
