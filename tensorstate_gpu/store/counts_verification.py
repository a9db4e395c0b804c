"""Checks stores of counts: all files that their records list, and files that no record lists."""

from collections.abc import Sequence
from typing import NamedTuple

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._process.progress import ProgressCallback
from tensorstate_gpu.store.counts_record import CountsRecord, check_shares
from tensorstate_gpu.store.documents import KEY
from tensorstate_gpu.store.files import Files, files_at
from tensorstate_gpu.store.kept_counts import find_record, range_paths
from tensorstate_gpu.store.kept_runs import run_arrays
from tensorstate_gpu.store.verification import (
    CommittedArray,
    Verification,
    check_arrays,
    orphans,
)


class RecordedCounts(NamedTuple):
    """A store of counts of which only the record was read: its files may be damaged."""

    files: Files
    record: CountsRecord

    def __str__(self) -> str:
        return str(self.files)

    @property
    def chunk_count(self) -> int:
        return sum(len(array.checksums) for array in self.record.arrays.values())

    def verify(self, progress: ProgressCallback | None = None) -> Verification:
        """Read and check everything, as Store.verify() does. ``rows`` is the sum of the counts."""
        arrays = self._arrays()
        chunks, size, problems = check_arrays(arrays, lambda: arrays, progress)
        listed = [KEY, *(key for array in arrays for key in array.file_keys())]
        others = orphans(self.files, lambda: listed)
        return Verification(chunks, size, self.record.tally.total, problems, others)

    def _arrays(self) -> Sequence[CommittedArray]:
        shapes = run_arrays(row_bytes(self.record.neurons))
        return [
            CommittedArray(self.files, name, self.record.arrays[name], shape)
            for name, shape in shapes.items()
            if self.record.arrays[name].rows  # of none, no file is written
        ]


def recorded_counts(path: str) -> list[RecordedCounts]:
    """Return the store of counts at a path, or each range that is written there.

    Only records are read. Raises NoStore if there are no counts, and ValueError if ranges are
    missing.
    """
    whole = _recorded(path)
    if whole is not None:
        return [whole]
    found = [each for each in map(_recorded, range_paths(path)) if each is not None]
    check_shares((str(each), each.record.share) for each in found)
    return found


def _recorded(path: str) -> RecordedCounts | None:
    files = files_at(path)
    record = find_record(files)
    return None if record is None else RecordedCounts(files, record)
