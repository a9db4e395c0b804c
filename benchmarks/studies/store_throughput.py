"""Stores beside plain files and memory: ``python -m benchmarks.studies.store_throughput [FOLDER]``.

Each figure is the median of rounds in which all contestants take turns, with the smallest and the
largest. Files lie in FOLDER (by default a temporary one), in the page cache where they are not
fsynced. Takes about three minutes, 3 GB of disk and as much memory.
"""

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import tensorstate_gpu as ts
from benchmarks.harness.compare import rotated
from tensorstate_gpu._layers.counters import count_chunks
from tensorstate_gpu.store import folder as store_folder

ROUNDS = 12
WRITTEN = 512 << 20
PIECE = 256 << 10
STORED = 10**8  # rows of 8 bytes


def pieces(row_bytes: int, total: int, distinct: int) -> Iterator[np.ndarray]:
    """Rows in pieces of 256 KB, again and again the same eight."""
    rng = np.random.default_rng(0)
    pool = rng.integers(0, 256, (distinct, row_bytes), dtype=np.uint8)
    rows = PIECE // row_bytes
    batches = [pool[(rng.random(rows) ** 4 * distinct).astype(int)] for _ in range(8)]
    for k in range(total // PIECE):
        yield batches[k % 8]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def write_plainly(path: Path, batches: list[np.ndarray], fsync: bool) -> None:
    with open(path, "wb") as file:
        for batch in batches:
            file.write(batch.data)
        if fsync:
            file.flush()
            os.fsync(file.fileno())


def capture(path: Path, batches: list[np.ndarray], durability: str) -> None:
    with ts.Store(path, "x", durability=durability) as store:
        point = ts.CapturePoint("layer", store)
        point.declare(8 * batches[0].shape[1])
        for batch in batches:
            point.append(batch, len(batch))


def by_one_thread(path: Path, batches: list[np.ndarray], durability: str) -> None:
    many = store_folder.WRITER_THREADS, store_folder.DURABLE_WRITER_THREADS
    store_folder.WRITER_THREADS = store_folder.DURABLE_WRITER_THREADS = 1
    try:
        capture(path, batches, durability)
    finally:
        store_folder.WRITER_THREADS, store_folder.DURABLE_WRITER_THREADS = many


def writing(folder: Path) -> None:
    batches = list(pieces(64, WRITTEN, 1 << 20))
    contestants: dict[str, Callable[[Path], None]] = {
        "one plain file": lambda path: write_plainly(path, batches, False),
        "one plain file, fsynced": lambda path: write_plainly(path, batches, True),
        "a store": lambda path: capture(path, batches, "process"),
        "a store, by one thread": lambda path: by_one_thread(path, batches, "process"),
        "durability='power'": lambda path: capture(path, batches, "power"),
        "durability='power', by one thread": lambda path: by_one_thread(path, batches, "power"),
    }
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for k in range(ROUNDS):
        for name in rotated(contestants, k):
            work, path = contestants[name], folder / "written"
            os.sync()  # what others wrote is not ours to wait for
            taken[name].append(seconds(lambda work=work, path=path: work(path)))
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    plain, synced, *stores = taken.values()
    print(f"512 MiB in pieces of 256 KiB, rows of 64 bytes, {ROUNDS} rounds")
    for name, times in taken.items():
        print(f"  {name:34} {spread([WRITTEN / 1e9 / t for t in times], 'GB/s')}")
    for name, limit, times in zip(
        [*contestants][2:], (plain, plain, synced, synced), stores, strict=True
    ):
        print(f"  {name} / plain {spread(ratios(limit, times))}")


def reading(folder: Path) -> None:
    batches = list(pieces(8, 8 * STORED, 1 << 17))
    capture(folder / "stored", batches, "process")
    memory = ts.CapturePoint("layer")
    memory.declare(64)
    for batch in batches:
        memory.append(batch, len(batch))
    layer = ts.Store(folder / "stored")["layer"]
    assert layer.histogram() == memory.histogram()
    opening, going_on, stored, kept, bare = [], [], [], [], []
    for _ in range(ROUNDS):
        opening.append(seconds(lambda: ts.Store(folder / "stored")["layer"]))
        going_on.append(seconds(lambda: go_on(folder / "stored")))
        stored.append(seconds(ts.Store(folder / "stored")["layer"].histogram))
        kept.append(seconds(lambda: count_chunks(memory.chunks(), 64)))
        bare.append(seconds(lambda: sum(len(chunk) for chunk in layer.chunks())))
    rows = len(layer)
    print(f"{rows:,} rows of 8 bytes, {len(layer.histogram()):,} distinct, {ROUNDS} rounds")
    print(f"  open to read         {spread([1e3 * t for t in opening], 'ms')}")
    print(f"  open to go on        {spread([1e3 * t for t in going_on], 'ms')}")
    print(f"  count from the store {spread([rows / 1e6 / t for t in stored], 'M rows/s')}")
    print(f"  count from memory    {spread([rows / 1e6 / t for t in kept], 'M rows/s')}")
    print(f"  read only, checked   {spread([rows * 8 / 1e9 / t for t in bare], 'GB/s')}")
    print(f"  store / memory       {spread(ratios(kept, stored))}")


def go_on(path: Path) -> None:
    with ts.Store(path, "a") as store:
        assert ts.CapturePoint("layer", store).state_count


def ratios(limit: list[float], ours: list[float]) -> list[float]:
    """How fast we are beside the limit, round by round."""
    return [theirs / our for theirs, our in zip(limit, ours, strict=True)]


def spread(values: list[float], unit: str = "") -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} .. {max(values):.3g}) {unit}"


if __name__ == "__main__":
    place = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=place) as temporary:
        writing(Path(temporary))
        reading(Path(temporary))
