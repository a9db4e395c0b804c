"""What codecs make of captured states: ``python benchmarks/studies/codecs.py DIR/states.zarr``.

DIR is what ``tensorstate demo --save DIR`` wrote. Best of five, on one thread.
"""

import sys
import time

import numcodecs
import numpy as np

import tensorstate_gpu as ts

CODECS = {"LZ4": numcodecs.LZ4(), "Zstd level 1": numcodecs.Zstd(1)}


def encoding_seconds(codec: numcodecs.abc.Codec, rows: np.ndarray) -> float:
    start = time.perf_counter()
    codec.encode(rows)
    return time.perf_counter() - start


def main(path: str) -> None:
    store = ts.Store(path)
    for layer in store.names:
        rows = np.concatenate(list(store[layer].chunks()))
        for name, codec in CODECS.items():
            ratio = rows.nbytes / len(codec.encode(rows))
            rate = rows.nbytes / min(encoding_seconds(codec, rows) for _ in range(5)) / 1e9
            print(f"{layer}: {name} {ratio:.2f}, {rate:.1f} GB/s")


if __name__ == "__main__":
    main(sys.argv[1])
