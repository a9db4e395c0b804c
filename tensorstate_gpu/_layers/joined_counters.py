"""JoinedCounters: the counts of several stores as one; each numbers its labels on its own."""

from collections.abc import Sequence

from tensorstate_gpu._layers.labels import Label
from tensorstate_gpu._layers.numbered_runs import NumberedRuns
from tensorstate_gpu._layers.run_counters import RunCounters


class JoinedCounters(RunCounters):
    """Counts of several stores, of the same groups, that are only read.

    Their runs are merged when they are read: nothing is copied.
    """

    def __init__(self, row_bytes: int, groups: int, parts: Sequence[RunCounters]) -> None:
        super().__init__(row_bytes, groups)
        self._each = tuple(parts)

    @property
    def total(self) -> int:
        return sum(part.total for part in self._each)

    @property
    def labels(self) -> list[Label]:
        return list(dict.fromkeys(label for part in self._each for label in part.labels))

    def _read(self) -> Sequence[NumberedRuns]:
        return [found for part in self._each for found in part._read()]
