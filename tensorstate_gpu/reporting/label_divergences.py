"""Which labels a layer tells apart, where that is little to compute: a part of a report."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorstate_gpu.information import ClassDivergences, class_divergences

MOST_LABELS = 20
# Rows, times the other labels, each of which they are compared with: a tenth of a second of an
# EPYC core.
MOST_COMPARED = 2**20


def label_divergences(layer: Any, labels: int) -> ClassDivergences | None:
    """Return how much the states of each two of the labels that were captured differ.

    None for a layer that keeps no rows, for that of several ranks, and where it would take long.
    ``labels``: how many there are.
    """
    if getattr(layer, "keeps_counts", True) or not 2 <= labels <= MOST_LABELS:
        return None
    if layer.state_count * (labels - 1) > MOST_COMPARED:
        return None
    chunks, ledger = layer.snapshot()
    rows = np.concatenate([*chunks])
    given = np.concatenate([*ledger.note_pieces("labels")])
    owners = ledger.instances_of_rows(0, len(rows))
    if len(np.unique(given[np.unique(owners)])) < labels:  # a mask has left out all inputs of one
        return None
    return class_divergences(rows, given, rng=0, instances=owners)
