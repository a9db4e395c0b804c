"""Saves a finished capture as a new store."""

from collections.abc import Collection
from typing import Any

from tensorstate_gpu._layers.labels import to_column
from tensorstate_gpu._layers.layer_states import LayerStates
from tensorstate_gpu.store.keys import state_key
from tensorstate_gpu.store.store import Store


def save_points(points: Collection[LayerStates], path: Any) -> None:
    """Write all rows, ledgers and notes of capture points, or nothing; see Run.save()."""
    for point in points:  # check everything before anything is written
        state_key(point.name)
        _check_notes(point)
    store = Store(path, "x", commit_seconds=None)
    try:
        for point in points:
            chunks, ledger = point.snapshot()
            assert point.neurons is not None
            layer = store.session.open_layer(
                point.name, point.neurons, point.attributes(), facts=point.facts
            )
            layer.import_capture(chunks, ledger)
        store.close()
    except BaseException:
        store.session.delete_new_store()
        raise


def _check_notes(point: LayerStates) -> None:
    _, ledger = point.snapshot()
    for what, column in ledger.notes.items():
        for values in column.pieces():
            to_column(values, f"{point.name}: {what} in a store")
