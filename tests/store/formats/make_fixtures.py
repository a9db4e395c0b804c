"""Writes the stores of the current format, for tests/store/test_formats.py.

python -m tests.store.formats.make_fixtures FOLDER

Only for a new format: what is committed here stays as the older versions of the library wrote it.
"""

import argparse
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
from zarr.codecs import ZstdCodec

import tensorstate_gpu as ts


def without_labels(path: Path) -> None:
    """Two layers, one with a name that is escaped, in three commits; whole chunks and a rest."""
    with ts.Store(path, "x", commit_seconds=None) as store:
        conv = ts.CapturePoint("conv_1", store, threshold=0.5)
        conv.declare(12, 1)
        dense = ts.CapturePoint("block/dense é", store)
        dense.declare(3, -1)
        for first in (0, 8, 16):
            rows = np.arange(first, first + 8)
            conv.append(np.stack([rows, rows % 3], axis=1).astype(np.uint8), 2)
            dense.append((rows[::4] // 4 % 5)[:, None].astype(np.uint8), 2)
            store.commit()


def integer_labels(path: Path) -> None:
    """One layer with a label for each instance, negative and large ones among them."""
    with ts.Store(path, "x", commit_seconds=None) as store:
        point = ts.CapturePoint("layer", store)
        point.declare(8, 1)
        rows = np.arange(10, dtype=np.uint8)[:, None]
        point.append(rows % 4, 5, np.array([7, -1, 7, 2**62, 7]))
        store.commit()
        point.append(rows[:4] % 4, 2, np.array([0, -1]))


def string_labels(path: Path) -> None:
    """Instances with different numbers of states, labels that are not ASCII, compressed rows."""
    with ts.Store(path, "x", commit_seconds=None, compressor=ZstdCodec(level=1)) as store:
        point = ts.CapturePoint("layer", store)
        point.declare(16, 3)
        rows = np.stack([np.arange(11), np.full(11, 255)], axis=1).astype(np.uint8)
        point.append(rows[:6], 2, ["cat", "größer"])
        point.append(rows[6:9], 3, ["", "cat", "two words"])
        point.append(rows[9:9], 1, ["none"])
        store.commit()
        point.append(rows[9:], 1, ["cat"])


def never_committed(path: Path) -> None:
    """What a program leaves that is killed after it opened a store, and before its first commit."""
    open_one = path.with_name("open")
    store = ts.Store(open_one, "x", commit_seconds=None)
    point = ts.CapturePoint("layer", store)
    point.declare(8, 1)
    shutil.copytree(open_one, path)
    store.close()
    shutil.rmtree(open_one)


def kept_counts(path: Path) -> None:
    """A layer that keeps counts, by label and group, and one that has no labels; three commits."""
    with ts.Store(path, "x", commit_seconds=None) as store:
        counted = ts.CapturePoint("counted", store, keep="counts", groups=2)
        counted.declare(12, 1)
        plain = ts.CapturePoint("plain", store, keep="counts")
        plain.declare(8, -1)
        for first, last in ((0, 40), (40, 46), (46, 48)):
            numbers = np.arange(first, last)
            rows = np.stack([numbers % 20, numbers % 2], axis=1).astype(np.uint8)
            labels = np.array(["even", "odd"])[numbers[::2] // 2 % 2]
            counted.append(rows, len(rows) // 2, labels)
            plain.append(rows[:, :1] // 5, len(rows))
            store.commit()


STORES = (without_labels, integer_labels, string_labels, never_committed, kept_counts)


def make(folder: Path) -> None:
    """Write all stores, in small chunks: with the usual ones each would take 256 KiB."""
    with (
        mock.patch("tensorstate_gpu._layers.chunked_buffer.CHUNK_BYTES", 20),
        mock.patch("tensorstate_gpu.store.kept_runs._CHUNK_BYTES", 64),
        mock.patch("tensorstate_gpu.store.kept_runs._LEAST_CHUNK_ROWS", 8),
    ):
        for write in STORES:
            write(folder / write.__name__)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Writes the stores of the current format.")
    parser.add_argument("folder", type=Path, help="where to write them: one folder for each store")
    make(parser.parse_args().folder)
