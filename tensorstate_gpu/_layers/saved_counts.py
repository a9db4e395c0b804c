"""Running counts as integers, strings and arrays, for the checkpoints of a training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tensorstate_gpu._arguments import integer
from tensorstate_gpu._layers.batches import Batch
from tensorstate_gpu._layers.counters import LabelledCounters
from tensorstate_gpu._layers.counts_accumulator import CountsAccumulator
from tensorstate_gpu._layers.instance_groups import SampleTallies
from tensorstate_gpu._layers.instance_notes import NoteColumn
from tensorstate_gpu._layers.ledger import Ledger
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


def restored_counts(state: Mapping[str, Any]) -> CountsAccumulator:
    """Return the counts that saved_counts() has saved."""
    groups = integer(state["groups"], "groups") or None
    found = CountsAccumulator(integer(state["neurons"], "neurons"), groups)
    labels = list(state["labels"])
    if (unlabelled := integer(state["without_label"], "without_label")) >= 0:
        labels[unlabelled] = None
    counters = LabelledCounters.__new__(LabelledCounters)
    counters.__setstate__(
        {
            "row_bytes": found.row_bytes,
            "groups": groups or 1,
            "numbers": {label: number for number, label in enumerate(labels)},
            "counters": [
                (bool(part["numbered"]), (part["rows"], part["counts"]))
                for part in state["counters"]
            ],
        }
    )
    samples = SampleTallies(groups or 1)
    for part in state["samples"]:
        by_group = tuple(part["by_group"].tolist())
        sample = SampledInstances(by_group, part["fingerprint"], bool(part["has_units"]))
        samples.by_label[labels[part["label"]]] = sample
    notes = {name: NoteColumn(name, count=count) for name, count in state["noted"].items()}
    found.replace(Ledger.from_batches(_pairs(state["batches"]), notes), counters, samples)
    return found


def _pairs(batches: Any) -> Sequence[Batch]:
    return [(instances, each) for instances, each in batches.tolist()]
