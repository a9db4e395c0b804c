"""Appending batches of packed rows to a stage on the CPU; cuda/stage.py is its counterpart."""

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.stage_arrays import (
    ACTIVE,
    BATCH_INPUTS,
    BATCH_ROWS,
    BATCHES,
    INPUTS,
    LABELLED,
    LABELS,
    LOST,
    ROWS,
    StageArrays,
)


def append_to_stage(
    packed: NDArray[np.uint8],
    inputs: int,
    labels: NDArray[np.int64] | None,
    stage: StageArrays[NDArray[np.int64]],
) -> None:
    """Append a batch, whole or not at all; see the Backend protocol."""
    rows, status, notes = stage
    if not status[ACTIVE]:
        return
    begin, end = status[ROWS], status[ROWS] + len(packed)
    if end > len(rows):
        status[LOST] += len(packed)
        return
    rows[begin:end] = packed
    batch, first = status[BATCHES], status[INPUTS]
    notes[BATCH_ROWS, batch], notes[BATCH_INPUTS, batch] = len(packed), inputs
    if labels is not None:
        notes[LABELS, first : first + inputs] = labels
    status[ROWS] = end
    status[INPUTS] += max(inputs, 0)
    status[BATCHES] += 1
    status[LABELLED] += labels is not None
