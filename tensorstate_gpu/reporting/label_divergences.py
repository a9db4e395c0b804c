"""Which labels a layer tells apart: a part of a report, if that is little to compute."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu.information import ClassDivergences, class_divergences

MOST_LABELS = 20
# Rows, times the other labels, each of which they are compared with: a quarter of a second. Of all
# layers of a report together.
MOST_COMPARED = 2**17
MOST_BYTES = 16 << 20  # of the rows of a layer


def divergences_of_layers(
    layers: Iterable[Any], labels: Sequence[int], *, always: bool
) -> list[ClassDivergences | None]:
    """Return how much the states of each two of the labels of each layer differ.

    None for a layer that keeps no rows, for that of several ranks, and where inputs belong to
    units, since these cannot be permuted one by one. Unless ``always``, also where it would take
    long or much memory: layers are compared in turn, as long as that is little in all.
    ``labels``: how many were captured of each layer.
    """
    left = math.inf if always else MOST_COMPARED
    found: list[ClassDivergences | None] = []
    for layer, number in zip(layers, labels, strict=True):
        if getattr(layer, "keeps_counts", True) or number < 2:
            found.append(None)
            continue
        compared = layer.state_count * (number - 1)
        size = layer.state_count * row_bytes(layer.neurons or 0)
        is_little = compared <= left and number <= MOST_LABELS and size <= MOST_BYTES
        found.append(_divergences(layer, number) if always or is_little else None)
        if found[-1] is not None:
            left -= compared
    return found


def _divergences(layer: Any, labels: int) -> ClassDivergences | None:
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
