"""A small store that is written and closed."""

import numpy as np

import tensorstate_gpu as ts

ROWS = np.random.default_rng(0).integers(0, 256, (35, 2)).astype(np.uint8)


def new_point(store, name="layer", neurons=16, axis=1, **options):
    point = ts.CapturePoint(name, store, **options)
    point.declare(neurons, axis)
    return point


def write_closed(path):
    """A closed store with 35 rows of 16 neurons."""
    with ts.Store(path, "x") as store:
        new_point(store, threshold=0.5).append(ROWS, 35, np.arange(35))
    return path


def content(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
