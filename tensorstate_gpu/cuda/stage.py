"""Appending batches of packed rows to a stage on the GPU: kernels/stage.cu."""

import numpy as np

from tensorstate_gpu._arrays.cupy_types import DeviceArray
from tensorstate_gpu._arrays.stage_arrays import StageArrays

from . import device
from .launch import THREADS, Launch, blocks_for
from .table import pointer

_BYTES_PER_THREAD = 4


def append_to_stage(
    packed: DeviceArray, inputs: int, labels: DeviceArray | None, stage: StageArrays[DeviceArray]
) -> None:
    """Append a batch, whole or not at all; see the Backend protocol.

    Two launches: only when all blocks have read where the batch begins may the next batch begin
    elsewhere.
    """
    rows, status, notes = map(pointer, stage)
    capacity, number = np.int64(len(stage.rows)), np.int64(len(packed))
    width = np.int64(packed.shape[1])
    threads = -(-packed.size // _BYTES_PER_THREAD)
    batch = (pointer(packed), number, width)
    device.run(
        Launch(
            "stage", "append_rows", (), (blocks_for(threads), 1), (*batch, rows, capacity, status)
        )
    )
    noted = (number, np.int64(inputs), pointer(labels), capacity, status, notes)
    device.run(Launch("stage", "note_batch", (), (1, 1), noted, THREADS))
