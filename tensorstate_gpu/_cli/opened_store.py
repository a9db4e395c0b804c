"""Opens the store of a command, and counts its layers with progress."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._layers.counters import count_chunks
from tensorstate_gpu._process.progress import Progress
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.stored_counts import StoredCounts
from tensorstate_gpu.store import Store, StoredLayer
from tensorstate_gpu.store.commit_record import KEY
from tensorstate_gpu.store.files import files_at
from tensorstate_gpu.store.folder import Folder

STATES, RESULTS = "states.zarr", "results.json"  # in the folder that demo --save writes


def open_store(path: str) -> tuple[Store, Path | None]:
    """Open the store at a path or URL. For a saved demo, also return its results file."""
    files = files_at(path)
    if isinstance(files, Folder):
        folder = files.path
        if not (folder / KEY).exists() and (folder / STATES).exists():
            return Store(folder / STATES), folder / RESULTS
    return Store(path), None


def committed_chunks(store: Store) -> int:
    layers = [layer for layer in store.record.layers.values() if layer is not None]
    arrays = [array for layer in layers for array in (layer.states, layer.labels, layer.ledger)]
    counts = [layer.counts for layer in layers if layer.counts is not None]
    arrays += [array for each in counts for run in each.runs for array in run.arrays.values()]
    return sum(len(array.checksums) for array in arrays if array is not None)


def count_layer(layer: StoredLayer, progress: Progress) -> StateCounts | StoredCounts:
    """Count the states of a layer. Raises an error if it has no rows."""
    if layer.committed is not None and layer.committed.counts is not None:
        return layer.counted()
    chunks = layer.chunks()
    assert layer.neurons is not None
    return count_chunks(_with_progress(chunks, progress), layer.neurons)


def _with_progress(
    chunks: Iterable[NDArray[np.uint8]], progress: Progress
) -> Iterator[NDArray[np.uint8]]:
    for chunk in chunks:
        yield chunk
        progress.add(len(chunk))
