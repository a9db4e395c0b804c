"""Running counts as integers, strings and arrays, for the checkpoints of a training."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.saved_arrays import SavedPart
from tensorstate_gpu._layers.batches import Batch
from tensorstate_gpu._layers.counters import LabelledCounters
from tensorstate_gpu._layers.counts_accumulator import CountsAccumulator
from tensorstate_gpu._layers.instance_groups import SampleTallies
from tensorstate_gpu._layers.instance_notes import NOTES, NoteColumn
from tensorstate_gpu._layers.labels import Label
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._layers.memory_rows import Rows
from tensorstate_gpu._layers.numbered_keys import numbered_bytes
from tensorstate_gpu.information.group_table import SampledInstances

State = dict[str, object]


def saved_counts(counts: CountsAccumulator) -> State:
    """Return everything that is needed to go on with these counts."""
    counters, ledger = counts.counters.__getstate__(), counts.ledger
    labels = list(counters["numbers"])  # in the order of their numbers, as in the keys of rows
    return {
        "neurons": counts.neurons,
        "groups": counts.groups or 0,
        "batches": np.array(ledger.batches, np.int64).reshape(-1, 2),
        "noted": {name: column.count for name, column in ledger.notes.items()},
        # A label is an int or a str; that of rows without one is None, and is left out here.
        "labels": ["" if label is None else label for label in labels],
        "without_label": labels.index(None) if None in labels else -1,
        "counters": [
            {"numbered": int(numbered), "rows": rows, "counts": numbers}
            for numbered, (rows, numbers) in counters["counters"]
        ],
        "samples": [
            {
                "label": labels.index(label),
                "by_group": np.array(sample.by_group, np.int64),
                "fingerprint": sample.fingerprint,
                "has_units": int(sample.has_units),
            }
            for label, sample in counts.samples.by_label.items()
            if counts.groups is not None
        ],
    }


def restored_counts(state: SavedPart) -> CountsAccumulator:
    """Return the counts that saved_counts() has saved. Raises ValueError for anything else."""
    groups = state.integer("groups") or None
    found = CountsAccumulator(state.integer("neurons", 1), groups)
    labels = _labels(state)
    counters = LabelledCounters.__new__(LabelledCounters)
    counters.__setstate__(
        {
            "row_bytes": found.row_bytes,
            "groups": groups or 1,
            "numbers": {label: number for number, label in enumerate(labels)},
            "counters": [
                _counted(part, found.row_bytes) for part in state.listed_parts("counters")
            ],
        }
    )
    samples = SampleTallies(groups or 1)
    samples.by_label = dict(_sample(part, labels, groups) for part in state.listed_parts("samples"))
    noted = state.part("noted")
    notes = {name: NoteColumn(name, count=noted.integer(name)) for name in NOTES}
    ledger = Ledger.from_batches(_batches(state), notes)
    if ledger.rows != counters.total:
        raise ValueError(
            f"state is damaged: {state.place} has {counters.total:,} rows of {ledger.rows:,}"
        )
    found.replace(ledger, counters, samples)
    return found


def _labels(state: SavedPart) -> list[Label]:
    labels: list[Label] = state.entries("labels")[:]
    unlabelled = state.integer("without_label", -1)
    if unlabelled >= len(labels) or not all(isinstance(each, int | str) for each in labels):
        raise ValueError(f"state is damaged: the labels of {state.place} are none")
    if unlabelled >= 0:
        labels[unlabelled] = None
    return labels


def _sample(
    part: SavedPart, labels: Sequence[Label], groups: int | None
) -> tuple[Label, SampledInstances]:
    """Return a label, and how many instances with it are in each group."""
    by_group = part.array("by_group", np.int64, 1).tolist()
    if (label := part.integer("label")) >= len(labels) or len(by_group) != groups:
        raise ValueError(f"state is damaged: {part.place} is of no label and its groups")
    sample = SampledInstances(
        tuple(by_group), part.integer("fingerprint"), bool(part.integer("has_units"))
    )
    return labels[label], sample


def _counted(part: SavedPart, row_bytes: int) -> tuple[bool, tuple[Rows, NDArray[np.int64]]]:
    """Return whether rows are numbered, they, and how often each occurred."""
    is_numbered = bool(part.integer("numbered"))
    rows, counts = part.array("rows", np.uint8, 2), part.array("counts", np.int64, 1)
    width = numbered_bytes(row_bytes) if is_numbered else row_bytes
    if rows.shape != (len(counts), width) or (counts < 1).any():
        raise ValueError(f"state is damaged: the counts of {part.place} are not those of its rows")
    return is_numbered, (rows, counts)


def _batches(state: SavedPart) -> list[Batch]:
    batches = state.array("batches", np.int64, 2)
    if batches.shape[1] != 2:
        raise ValueError(f"state is damaged: {state.place} has batches of shape {batches.shape}")
    return [(instances, each) for instances, each in batches.tolist()]
