"""A small store that is written and closed."""

import numpy as np

import tensorstate_gpu as ts
from tests.support.points import new_point

ROWS = np.random.default_rng(0).integers(0, 256, (35, 2)).astype(np.uint8)


def write_closed(path):
    """A closed store with 35 rows of 16 neurons."""
    with ts.Store(path, "x") as store:
        new_point(store, threshold=0.5).append(ROWS, 35, np.arange(35))
    return path


def layers_in(path):
    """All that was captured, byte by byte, without what the record says of its writers."""
    arrays = {file: data for file, data in content(path).items() if file != path / "zarr.json"}
    return arrays, ts.Store(path).record.layers


def content(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
