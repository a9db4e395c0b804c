"""Writing a finished capture to a new store."""

from collections.abc import Collection
from typing import Any

from tensorstate_gpu.readings import Readings
from tensorstate_gpu.store.names import state_key
from tensorstate_gpu.store.store import Store


def save(points: Collection[Readings], path: Any) -> None:
    """Write all rows, ledgers and labels of capture points; see Run.save."""
    for point in points:  # whatever is to be refused, before anything is written
        state_key(point.name)
        point.chunks()
        if any(labels.dtype.kind == "O" for labels in point.ledger().given_labels()):
            raise TypeError(f"{point.name}: labels in a store must be all integers or all strings")
    with Store(path, "x") as store:
        for point in points:
            assert point.neurons is not None
            layer = store.layer(point.name, point.neurons, point.attributes())
            layer.take_over(point.chunks(), point.ledger())
