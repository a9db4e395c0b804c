"""FixedRows: the rows of a layer at one point in time, and which label and group each has."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.instance_groups import (
    GROUPS,
    SampleTallies,
    groups_of,
    instance_hashes,
)
from tensorstate_gpu._layers.labels import Label
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._layers.memory_rows import Rows
from tensorstate_gpu.information.group_table import SampledInstances


class FixedRows(NamedTuple):
    """The rows of a layer, and the inputs that they are of. They do not change when more come.

    ``chunks``: the rows, which can be read once. ``labels``, ``groups``: one for each instance, or
    None if some have none. ``number``: how many groups there are. ``samples``: which instances have
    each label, also those without rows, if groups are known.
    """

    chunks: Iterator[Rows]
    ledger: Ledger
    labels: NDArray[Any] | None
    groups: NDArray[np.int64] | None
    number: int
    samples: dict[Label, SampledInstances]

    @classmethod
    def of(cls, accumulator: Accumulator, groups: int | None) -> "FixedRows":
        """Return what an accumulator of rows has now. ``groups``: how many; None: the default."""
        number = GROUPS if groups is None else groups
        chunks, ledger = accumulator.chunks(), accumulator.ledger.snapshot()
        labels, units = _of_all(ledger, "labels"), _of_all(ledger, "units")
        samples = SampleTallies(number)
        if ledger.unassigned_rows or (units is None and ledger.notes["units"].count):
            return cls(chunks, ledger, labels, None, number, samples.by_label)
        hashes = instance_hashes(0, ledger.count, units)
        samples.add(hashes, labels, has_units=units is not None)
        return cls(chunks, ledger, labels, groups_of(hashes, number), number, samples.by_label)

    def notes_of_rows(
        self, start: int, stop: int
    ) -> tuple[NDArray[Any] | None, NDArray[np.int64] | None]:
        """Return the labels and the groups of rows [start, stop), as far as they are known."""
        if self.labels is None and self.groups is None:
            return None, None
        instances = self.ledger.instances_of_rows(start, stop)
        return (
            None if self.labels is None else self.labels[instances],
            None if self.groups is None else self.groups[instances],
        )


def _of_all(ledger: Ledger, what: str) -> NDArray[Any] | None:
    """Return the label, or the unit, of each instance; None unless all have one."""
    if not (ledger.instances and ledger.all_have(what)):
        return None
    return np.concatenate(list(ledger.note_pieces(what)))
