"""Which labels a layer tells apart: a part of a report, if that is little to compute."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._process.memory_limit import get_memory_limit
from tensorstate_gpu.information import ClassDivergences, class_divergences
from tensorstate_gpu.reporting.text import format_bytes

MOST_LABELS = 20
# Rows, times the other labels, each of which they are compared with: a quarter of a second. Of all
# layers of a report together.
MOST_COMPARED = 2**17
MOST_BYTES = 16 << 20  # of the rows of a layer
_COPIES, _NUMBERS = 4, 115  # of rows, and bytes of numbers for each, while labels are compared


def divergences_of_layers(
    layers: Iterable[Any], labels: Sequence[int], *, always: bool
) -> list[ClassDivergences | str | None]:
    """Return how much the states of each two of the labels of each layer differ, or why not.

    None for a layer with fewer than two labels. Text for one that keeps no rows, where inputs
    belong to units, since these cannot be permuted one by one, and where more memory would be
    needed than get_memory_limit(). Unless ``always``, also where it would take long: layers are
    compared in turn, as long as that is little in all.
    ``labels``: how many were captured of each layer.
    """
    left = math.inf if always else MOST_COMPARED
    found: list[ClassDivergences | str | None] = []
    for layer, number in zip(layers, labels, strict=True):
        if number < 2:
            found.append(None)
            continue
        compared = layer.state_count * (number - 1)
        told = _why_not(layer) or (None if always else _why_long(layer, number, compared > left))
        found.append(told or _divergences(layer, number))
        if not isinstance(found[-1], str):
            left -= compared
    return found


def _why_not(layer: Any) -> str | None:
    """Return why the labels of a layer cannot be compared. Reads none of its rows."""
    if layer.keeps_counts:
        return "only counts are kept, which do not tell inputs apart; rows do"
    needed = layer.state_count * (_COPIES * row_bytes(layer.neurons) + _NUMBERS)
    if needed > (limit := get_memory_limit()):
        return (
            f"it would take {format_bytes(needed)} of memory, more than the limit of "
            f"{format_bytes(limit)}: set_memory_limit() raises it, and "
            "information.class_divergences() compares a part of the inputs"
        )
    return None


def _why_long(layer: Any, labels: int, is_long: bool) -> str | None:
    size = layer.state_count * row_bytes(layer.neurons)
    if is_long or labels > MOST_LABELS or size > MOST_BYTES:
        return "it would take long; report(divergences=True) does, and report --divergences"
    return None


def _divergences(layer: Any, labels: int) -> ClassDivergences | str:
    chunks, ledger = layer.snapshot()
    if ledger.notes["units"].count:
        return "inputs belong to units, and cannot be permuted one by one"
    rows = np.concatenate([*chunks])
    given = np.concatenate([*ledger.note_pieces("labels")])
    if given.dtype == object:
        return "some are integers and others strings, of which neither is before the other"
    owners = ledger.instances_of_rows(0, len(rows))
    seen, owners = np.unique(owners, return_inverse=True)  # a mask has left out others
    if len(np.unique(given[seen])) < labels:
        return "some labels have no states"
    return class_divergences(rows, given[seen], rng=0, instances=owners)
