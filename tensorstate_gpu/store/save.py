"""Writing a finished capture to a new store."""

from collections.abc import Collection
from typing import Any

from tensorstate_gpu._layers.layer_states import Readings
from tensorstate_gpu.store.keys import state_key
from tensorstate_gpu.store.labels import typed
from tensorstate_gpu.store.store import Store


def save_points(points: Collection[Readings], path: Any) -> None:
    """Write all rows, ledgers and labels of capture points, or nothing; see Run.save."""
    for point in points:  # whatever is to be refused, before anything is written
        state_key(point.name)
        _check_labels(point)
    store = Store(path, "x", commit_seconds=None)
    try:
        for point in points:
            chunks, ledger = point.snapshot()
            assert point.neurons is not None
            layer = store.session.layer(point.name, point.neurons, point.attributes())
            layer.take_over(chunks, ledger)
        store.close()
    except BaseException:
        store.session.undo()
        raise


def _check_labels(point: Readings) -> None:
    _, ledger = point.snapshot()
    for labels in ledger.given_labels():
        if labels.dtype.kind == "O":
            raise TypeError(f"{point.name}: labels in a store must be all integers or all strings")
        typed(labels)
