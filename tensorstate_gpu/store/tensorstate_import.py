"""Imports the states that TensorState has written with ``disk_path`` or ``storage_path``.

It keeps an array of packed rows for each layer, in the same order of bits, at
``<path>/tensor_states/<layer>.zarr``. The arrays are longer than the states in them, and nothing
says by how much, nor how many neurons there are.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import positive_integer
from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._layers.batches import divided, unassigned
from tensorstate_gpu._layers.layer_facts import LayerFacts
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._states.packed_arguments import check_unused_bits
from tensorstate_gpu.errors import NoStore
from tensorstate_gpu.store.writing_session import WritingSession

ByLayer = int | Mapping[str, int]
_ROWS_AT_ONCE = 2**16


class OldLayer:
    """The array of one layer, of which the first ``rows`` rows are states."""

    def __init__(self, folder: Path, rows: ByLayer, neurons: ByLayer) -> None:
        import zarr  # slow to import

        self.name = folder.name.removesuffix(".zarr")
        self._array: Any = zarr.open_array(folder, mode="r")
        self.rows = _of_layer(rows, self.name, "rows")
        self.neurons = _of_layer(neurons, self.name, "neurons")
        kept, width = self._array.shape
        if width != row_bytes(self.neurons):
            raise ValueError(
                f"neurons: {self.name} has rows of {width} bytes, not of {self.neurons} neurons"
            )
        if self.rows > kept:
            raise ValueError(f"rows: {self.name} has {kept:,} rows, not {self.rows:,}")

    def chunks(self) -> Iterator[NDArray[np.uint8]]:
        """Return the rows. Raises ValueError for bits that are those of no neuron."""
        for start in range(0, self.rows, _ROWS_AT_ONCE):
            chunk = self._read(start, min(start + _ROWS_AT_ONCE, self.rows))
            check_unused_bits(chunk, self.neurons)
            yield chunk

    def check_end(self) -> None:
        """Raise ValueError if neurons fire behind the last row."""
        for start in range(self.rows, self._array.shape[0], _ROWS_AT_ONCE):
            if self._read(start, start + _ROWS_AT_ONCE).any():
                raise ValueError(f"rows: {self.name} has states behind row {self.rows:,}")

    def _read(self, start: int, stop: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self._array[start:stop], np.uint8)


def old_layers(path: str | os.PathLike[str], rows: ByLayer, neurons: ByLayer) -> list[OldLayer]:
    """Return the layers at a path. Raises ValueError for numbers that do not fit them."""
    layers = [OldLayer(folder, rows, neurons) for folder in _folders(Path(path).expanduser())]
    for layer in layers:
        layer.check_end()
    return layers


def import_layers(
    session: WritingSession, layers: Iterable[OldLayer], instances: int | None
) -> None:
    """Write the states of layers; ``instances``: how many inputs there were, if that is known."""
    for layer in layers:
        count = layer.rows
        batches = unassigned(count, None) if instances is None else divided(count, instances)
        ledger = Ledger()
        ledger.add(batches)
        capture = {"neuron_axis": None, "threshold": 0.0}
        writer = session.open_layer(layer.name, layer.neurons, capture, facts=LayerFacts)
        for _ in writer.import_capture(layer.chunks(), ledger):
            pass


def _folders(path: Path) -> list[Path]:
    for folder in (path / "tensor_states", path):
        if found := sorted(folder.glob("*.zarr")):
            return found
    raise NoStore(f"{path} has no states of TensorState: no tensor_states/<layer>.zarr")


def _of_layer(given: ByLayer, name: str, argument: str) -> int:
    if not isinstance(given, Mapping):
        return positive_integer(given, argument)
    if name not in given:
        raise ValueError(f"{argument}: nothing is said of {name!r}; there are {list(given)}")
    return positive_integer(given[name], f"{argument}[{name!r}]")
