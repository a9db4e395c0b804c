"""Saves a finished capture as a new store."""

from collections.abc import Collection, Iterator
from typing import Any

from tensorstate_gpu._layers.labels import to_column
from tensorstate_gpu._layers.layer_states import LayerStates
from tensorstate_gpu._process.progress import ProgressCallback
from tensorstate_gpu.store.keys import state_key
from tensorstate_gpu.store.store import Store


def save_points(
    points: Collection[LayerStates], path: Any, progress: ProgressCallback | None = None
) -> None:
    """Write all rows or counts, ledgers and notes of capture points, or nothing; see Run.save()."""
    for point in points:  # check everything before anything is written
        state_key(point.name)
        point.check_captured()
        if not point.keeps_counts:
            _check_notes(point)
    total = sum(point.state_count for point in points)
    store = Store(path, "x", commit_seconds=None)
    done = 0
    try:
        for point in points:
            for rows in _saved(store, point):
                done += rows
                if progress is not None:
                    progress(done, total)
        store.close()
    except BaseException:
        store.session.delete_new_store()
        raise


def _saved(store: Store, point: LayerStates) -> Iterator[int]:
    """Write a layer. Yield the number of rows after each piece."""
    assert point.neurons is not None
    about = point.name, point.neurons, point.attributes()
    counts = point.saved_counts()
    if counts is not None:
        yield from store.session.open_counts(*about, None, point.facts).import_counts(counts)
        return
    chunks, ledger = point.snapshot()
    layer = store.session.open_layer(*about, facts=point.facts)
    yield from layer.import_capture(chunks, ledger)


def _check_notes(point: LayerStates) -> None:
    _, ledger = point.snapshot()
    for what, column in ledger.notes.items():
        for values in column.pieces():
            to_column(values, f"{point.name}: {what} in a store")
