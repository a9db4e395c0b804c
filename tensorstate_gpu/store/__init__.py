"""Packed states that outlive the program: one zarr v3 group per run.

``run.zarr/conv_1`` is an array (rows, bytes) of one capture point, ``run.zarr/labels/conv_1`` the
labels of its instances, if it has any; any zarr v3 client reads them. The group's attributes hold
the commit record (record.py), which alone says what is there: chunks are written before it, once;
the last, partial one again by each commit, with the same beginning.
"""

from tensorstate_gpu.store.store import Store
from tensorstate_gpu.store.stored_layer import StoredLayer
from tensorstate_gpu.store.verification import Verification

__all__ = ["Store", "StoredLayer", "Verification"]
