"""Appending batches of packed rows to a stage on the GPU: kernels/stage.cu."""

import numpy as np

from tensorstate_gpu._arrays.cupy_types import DeviceArray
from tensorstate_gpu._arrays.stage_arrays import StageArrays

from . import device
from .launch import BYTES_AT_ONCE, THREADS, Launch, cached_launch
from .table import pointer

_NOTE = Launch("stage", "note_batch", (), (1, 1), ())


def append_to_stage(
    packed: DeviceArray, inputs: int, labels: DeviceArray | None, stage: StageArrays[DeviceArray]
) -> None:
    """Append a batch, whole or not at all; see the Backend protocol.

    Two launches: only when all blocks have read where the batch begins may the next batch begin
    elsewhere.
    """
    number, width = map(np.int64, packed.shape)
    capacity, status = np.int64(stage.rows.shape[0]), np.uint64(stage.status.data.ptr)
    blocks = -(-packed.size // (BYTES_AT_ONCE * THREADS))
    rows = (np.uint64(stage.rows.data.ptr), capacity, status)
    append = cached_launch("stage", "append_rows", (), (blocks, 1), ())
    device.run(append, np.uint64(packed.data.ptr), number, width, *rows)
    noted = (number, np.int64(inputs), pointer(labels), capacity, status)
    device.run(_NOTE, *noted, np.uint64(stage.notes.data.ptr))
