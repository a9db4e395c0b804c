"""Counts beyond a memory limit: ``python -m benchmarks.studies.external_counting``.

This library, DuckDB, Polars and Dask read the same states, from a store or a Parquet file, each in
a process of its own with two threads. They compute the entropy; "to file", they write all counts
too. "On Dask" are this library's tasks on Dask's threads, a part in each. The programs take turns,
round by round. Polars and Dask have no memory limit: they may take up to --most.

``--rows 1e7`` and ``--rounds 1`` make it short. ``--minutes 40`` begins no round that would end
later, if it takes as long as the longest before. ``--cases`` and ``--programs`` choose some, and
``--once Dask Polars`` runs these in the first round only. Files are in --folder, 60 bytes for each
of the rows and what is spilled, and are deleted. ``--page docs/performance.md`` puts the table and
its options between the markers of that page, after each round: those that have ended count.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import tensorstate_gpu as ts
from benchmarks.harness.tables import _between

MARKER = "table: counts beyond a memory limit"
BATCH_BYTES = 1 << 23
# name: (bytes of a state, share of the rows, number of distinct states among so many rows)
CASES = {
    "8 bytes, all distinct": (8, 1.0, 1.0),
    "8 bytes, 1 % distinct": (8, 1.0, 0.01),
    "64 bytes, all distinct": (64, 0.2, 1.0),
}
OURS, TO_FILE, ON_DASK, DUCKDB, DUCKDB_TO_FILE, POLARS, DASK = (
    "tensorstate_gpu",
    "tensorstate_gpu, to file",
    "tensorstate_gpu, on Dask, to file",
    "DuckDB",
    "DuckDB, to file",
    "Polars",
    "Dask",
)
ROW_GROUP = 1 << 20  # rows
SMALLEST_LIMIT = 1 << 26  # bytes


def batches(width: int, rows: int, distinct: int) -> Iterator[np.ndarray]:
    """States by chance, of which about so many are distinct."""
    rng = np.random.default_rng(0)
    size = BATCH_BYTES // width
    for start in range(0, rows, size):
        numbers = rng.integers(0, distinct, min(size, rows - start), dtype=np.uint64)
        words = np.arange(width // 8, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (numbers[:, None] + words) * np.uint64(0xD1342543DE82EF95)
        if distinct >= rows:  # a number for each row: all states differ
            numbers = np.arange(start, start + len(numbers), dtype=np.uint64)
            mixed = (numbers[:, None] + words) * np.uint64(0xD1342543DE82EF95)
        mixed ^= mixed >> np.uint64(32)
        yield mixed.view(np.uint8).reshape(-1, width)


def write_inputs(folder: Path, width: int, rows: int, distinct: int) -> None:
    run = ts.Store(folder / "run.zarr", "x")
    point = ts.CapturePoint("layer", run)
    point.declare(8 * width)
    kind = pa.uint64() if width == 8 else pa.binary(width)
    with pq.ParquetWriter(folder / "states.parquet", pa.schema([("k", kind)])) as writer:
        for states in batches(width, rows, distinct):
            point.append(states, len(states))
            column = pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(width), len(states), [None, pa.py_buffer(states)]
            )
            writer.write_table(pa.table({"k": column.view(kind)}), row_group_size=ROW_GROUP)
    run.close()


def ours(folder: Path, limit: int, out: Path | None) -> float:
    ts.set_memory_limit(limit)
    layer = ts.Store(folder / "run.zarr")["layer"]
    return layer.entropy() if out is None else layer.histogram(to=out).entropy()


def ours_on_dask(folder: Path, limit: int, out: Path | None) -> float:
    ts.set_memory_limit(limit)
    path = folder / "run.zarr"
    with dask_threads():
        return ts.count_stores(path, part_bytes=1 << 27, to=out).entropy()


def dask_threads() -> AbstractContextManager:
    import dask

    return dask.config.set(scheduler="threads", num_workers=2)


ENTROPY = "log2(sum(n)) - sum(n * log2(n)) / sum(n)"


def duckdb(folder: Path, limit: int, out: Path | None) -> float:
    import duckdb as library

    settings = {"memory_limit": f"{limit}B", "threads": 2, "temp_directory": str(folder / "temp")}
    base = library.connect(config={**settings, "preserve_insertion_order": False})
    counts = f"SELECT k, count(*) AS n FROM '{folder / 'states.parquet'}' GROUP BY k"
    if out is None:
        return base.execute(f"SELECT {ENTROPY} FROM ({counts})").fetchall()[0][0]
    base.execute(f"COPY ({counts}) TO '{out}' (FORMAT parquet)")
    return base.execute(f"SELECT {ENTROPY} FROM '{out}'").fetchall()[0][0]


def polars(folder: Path, limit: int, out: Path | None) -> float:
    import polars as pl

    n = pl.col("len").cast(pl.Float64)
    entropy = n.sum().log(2) - (n * n.log(2)).sum() / n.sum()
    counts = pl.scan_parquet(folder / "states.parquet").group_by("k").len()
    return counts.select(entropy).collect(engine="streaming").item()


def dask_frame(folder: Path, limit: int, out: Path | None) -> float:
    import dask
    import dask.dataframe as dd

    frame = dd.read_parquet(folder / "states.parquet", split_row_groups=4)
    n = frame.groupby("k").size(split_out=frame.npartitions).astype("float64")
    with dask_threads():
        total, logarithms = dask.compute(n.sum(), (n * np.log2(n)).sum())
    return np.log2(total) - logarithms / total


PROGRAMS = {
    OURS: ours,
    TO_FILE: ours,
    ON_DASK: ours_on_dask,
    DUCKDB: duckdb,
    DUCKDB_TO_FILE: duckdb,
    POLARS: polars,
    DASK: dask_frame,
}
UNLIMITED = (POLARS, DASK)


def child(program: str, folder: str, width: str, limit: str, most: str) -> None:
    """Run one program, and print what it took as JSON."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        out = Path(temporary) / "counts.parquet" if "to file" in program else None
        if program in UNLIMITED:
            resource.setrlimit(resource.RLIMIT_DATA, (int(most), int(most)))
        tempfile.tempdir = temporary
        PROGRAMS[program](warm_up(Path(temporary), int(width)), int(limit), None)
        Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
        begun, cpu = time.perf_counter(), time.process_time()
        entropy = PROGRAMS[program](Path(folder), int(limit), out)
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "cpu": cpu, "MB": peak / 1e3, "entropy": entropy}))


def warm_up(folder: Path, width: int) -> Path:
    """Write a few states, so that libraries are imported and kernels loaded before the clock."""
    few = folder / "few"
    few.mkdir()
    rows = BATCH_BYTES // width
    write_inputs(few, width, rows, rows)
    return few


def compile_kernels(folder: Path) -> None:
    """Count states of each width beyond the memory, so that all kernels are in Numba's cache."""
    for width in {width for width, _, _ in CASES.values()}:
        with tempfile.TemporaryDirectory(dir=folder) as few:
            rows = 4 * SMALLEST_LIMIT // width
            write_inputs(Path(few), width, rows, rows)
            for program in (OURS, TO_FILE, ON_DASK):
                measure(program, Path(few), width, SMALLEST_LIMIT, 0)


def measure(
    program: str, folder: Path, width: int, limit: int, most: int
) -> dict[str, float] | None:
    """Run one program in a process of its own; None if it ran out of memory."""
    command = [sys.executable, "-m", __spec__.name, "--child", program, str(folder)]
    threads = {"POLARS_MAX_THREADS": "2", "TENSORSTATE_NUM_THREADS": "2"}
    done = subprocess.run(
        [*command, *map(str, (width, limit, most))],
        capture_output=True,
        text=True,
        env=os.environ | threads,
    )
    if done.returncode == 0:
        return json.loads(done.stdout)
    if done.returncode > 0 and "memory" not in done.stderr.lower():
        if program not in UNLIMITED:
            raise RuntimeError(f"{program}: {done.stderr}")
        # Without memory, they also fail to start threads, or to read a page.
        print(f"{program}: {done.stderr[-500:]}", file=sys.stderr)
    return None


def table(case: str, found: dict[str, list[dict[str, float] | None]]) -> Iterator[str]:
    """Lines of the table: medians, and the ratio of wall times of the same round to DuckDB's."""
    for program, rounds in found.items():
        if None in rounds:
            yield f"| {case} | {program} | out of memory | | | |"
            continue
        median = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        rival = found.get(DUCKDB_TO_FILE if "to file" in program else DUCKDB, [None])
        ratio = "-"
        if None not in rival and program not in (DUCKDB, DUCKDB_TO_FILE):
            # Those that ran once did so in the first round.
            ratios = [b["seconds"] / a["seconds"] for a, b in zip(rounds, rival, strict=False)]
            ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})"
        yield (
            f"| {case} | {program} | {median['seconds']:.1f} s | {median['cpu']:.1f} s | "
            f"{median['MB']:.0f} MB | {ratio} |"
        )


HEADINGS = (
    "| states | program | wall | CPU | peak memory | DuckDB's wall time by this one's |",
    "|---|---|---|---|---|---|",
)


def with_table(page: str, options: argparse.Namespace, rounds: int, lines: list[str]) -> str:
    """The page with this table between its markers."""
    how = f"--rows {options.rows:g} --rounds {rounds} --limit {options.limit:g}"
    for option in ("once", "cases", "programs"):
        if named := [f'"{name}"' if " " in name else name for name in getattr(options, option)]:
            how += f" --{option} {' '.join(named)}"
    machine = f"{os.cpu_count()} processors, with a load of {options.load:.1f} before it began"
    return _between(page, MARKER, "\n".join([f"Medians of `{how}`; {machine}:", "", *lines]))


Found = dict[str, dict[str, list[dict[str, float] | None]]]  # by case and program, round by round


def one_round(found: Found, folder: Path, options: argparse.Namespace) -> None:
    """Run each program once on each case, but for those that have run and shall run once only."""
    for case, programs in found.items():
        for program, rounds in programs.items():
            if rounds and program in options.once:
                continue
            limits = int(options.limit), int(options.most)
            done = measure(program, folder / case, CASES[case][0], *limits)
            rounds.append(done)
            took = "out of memory" if done is None else f"{done['seconds']:.1f} s"
            print(f"{case}; {program}: {took}", file=sys.stderr, flush=True)
        entropies = [each["entropy"] for rounds in programs.values() for each in rounds if each]
        if max(entropies) - min(entropies) > 1e-6:
            raise ValueError(f"{case}: entropies differ: {entropies}")


def prepare(folder: Path, options: argparse.Namespace) -> Found:
    """Write the inputs of each case to a folder of its name."""
    cases, programs = options.cases or CASES, options.programs or PROGRAMS
    for case in cases:
        width, share, distinct = CASES[case]
        rows = int(options.rows * share)
        (folder / case).mkdir()
        write_inputs(folder / case, width, rows, int(rows * distinct))
    return {case: {program: [] for program in programs} for case in cases}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=float, default=1e8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=1e9)
    parser.add_argument("--most", type=float, default=6e9)
    parser.add_argument("--cases", nargs="*", default=[], choices=CASES)
    parser.add_argument("--programs", nargs="*", default=[], choices=PROGRAMS)
    parser.add_argument("--once", nargs="*", default=[], choices=PROGRAMS)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--folder", default=tempfile.gettempdir())
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    options.load = os.getloadavg()[0]
    begun, longest = time.monotonic(), 0.0
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        compile_kernels(Path(folder))
        found = prepare(Path(folder), options)
        for number in range(1, options.rounds + 1):
            start = time.monotonic()
            if number > 1 and start - begun + longest > 60 * options.minutes:
                break
            one_round(found, Path(folder), options)
            longest = max(longest, time.monotonic() - start)
            print(f"round {number}: {longest:.0f} s at most", file=sys.stderr, flush=True)
            lines = [*HEADINGS, *(line for case in found for line in table(case, found[case]))]
            if options.page is not None:
                page = options.page.read_text()
                options.page.write_text(with_table(page, options, number, lines))
    print("\n".join(lines))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
