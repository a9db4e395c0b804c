"""Which labels a layer tells apart, where that is little to compute: a part of a report."""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu.information import ClassDivergences, class_divergences

MOST_LABELS = 20
# Rows, times the other labels, each of which they are compared with: a quarter of a second.
MOST_COMPARED = 2**17
MOST_BYTES = 16 << 20  # of rows


def label_divergences(layer: Any, labels: int) -> ClassDivergences | None:
    """Return how much the states of each two of the labels that were captured differ.

    None for a layer that keeps no rows, for that of several ranks, and where it would take long or
    much memory; and where inputs belong to units, since these cannot be permuted one by one.
    ``labels``: how many there are.
    """
    if getattr(layer, "keeps_counts", True) or not 2 <= labels <= MOST_LABELS:
        return None
    size = layer.state_count * row_bytes(layer.neurons or 0)
    if layer.state_count * (labels - 1) > MOST_COMPARED or size > MOST_BYTES:
        return None
    chunks, ledger = layer.snapshot()
    if ledger.notes["units"].count:
        return None
    rows = np.concatenate([*chunks])
    given = np.concatenate([*ledger.note_pieces("labels")])
    owners = ledger.instances_of_rows(0, len(rows))
    seen, owners = np.unique(owners, return_inverse=True)  # a mask has left out others
    if len(np.unique(given[seen])) < labels:
        return None
    return class_divergences(rows, given[seen], rng=0, instances=owners)
