"""Stores: packed states on disk or in an object store, one zarr v3 group per run.

``run.zarr/conv_1`` is an array (rows, bytes) of one capture point. ``run.zarr/labels/conv_1`` holds
the labels of its instances, if there are any. Any zarr v3 client can read both. The commit record
(commit_record.py), an attribute of the group, alone defines what the store contains. Full chunks
are written once, before the record that lists them. Each commit rewrites the last, partial chunk of
an array; the beginning of that chunk does not change.
"""

from tensorstate_gpu.store.counted_parts import count_part, merge_counts, merge_range
from tensorstate_gpu.store.joined_layer import JoinedLayer
from tensorstate_gpu.store.kept_counts import open_counts
from tensorstate_gpu.store.opening_stores import open_stores
from tensorstate_gpu.store.store import Store
from tensorstate_gpu.store.stored_layer import StoredLayer
from tensorstate_gpu.store.stores import Stores
from tensorstate_gpu.store.verification import Verification

__all__ = [
    "JoinedLayer",
    "Store",
    "StoredLayer",
    "Stores",
    "Verification",
    "count_part",
    "merge_counts",
    "merge_range",
    "open_counts",
    "open_stores",
]


def __dir__() -> list[str]:
    """For completion in editors and notebooks: without the modules inside."""
    return __all__
