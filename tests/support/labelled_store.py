"""A store of two layers in small chunks, one of them labelled, for tests of damage and copies."""

import numpy as np

import tensorstate_gpu as ts
from tensorstate_gpu.store.documents import check_document, with_checksum

ROWS = np.random.default_rng(0).integers(0, 256, (35, 2)).astype(np.uint8)


def capture_into(store):
    """Layer "a" with 35 rows of 7 labelled instances, and "b" with 12 rows."""
    first, second = ts.CapturePoint("a", store), ts.CapturePoint("b", store)
    for point in (first, second):
        point.declare(16, 1)
    first.append(ROWS, 7, np.arange(7))
    second.append(ROWS[:12], 12)
    return first, second


def write_run(path):
    """A store with both layers; the path again."""
    with ts.Store(path, "x") as store:
        capture_into(store)
    return path


def rewrite(file, change):
    """Change a zarr.json, with the checksum that fits."""
    document = check_document(file.read_bytes(), "here")
    change(document)
    file.write_bytes(with_checksum(document))
