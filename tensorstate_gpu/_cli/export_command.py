"""``tensorstate export``: writes the layers of a store as Parquet files or as a zip file."""

import argparse
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from tensorstate_gpu._cli.opened_store import layer_named, open_store
from tensorstate_gpu._process.new_files import new_folder
from tensorstate_gpu._process.progress import Progress, counted_then_written, so_far
from tensorstate_gpu.reporting.text import printable_name, with_noun
from tensorstate_gpu.store import Store, Stores
from tensorstate_gpu.store.keys import file_name
from tensorstate_gpu.store.stored_rows import StoredRows


def export(options: argparse.Namespace) -> int:
    """Write layers as Parquet files to a new folder, or to a new zip file."""
    store, _ = open_store(options)
    wanted = [layer_named(store, name).name for name in options.layer or store.names]
    names = list(dict.fromkeys(wanted))
    counts = ".counts" if options.counts else ""
    stem = _stem(store.parts if isinstance(store, Stores) else [store])
    out = f"{stem}{counts}.{options.format}" if options.to is None else options.to
    if options.format == "parquet":
        _to_parquet(store, names, out, options)
        return 0
    if isinstance(store, Stores):
        raise ValueError("a zip file holds one store: export several with --format parquet")
    if options.counts:
        raise ValueError("--counts is for --format parquet; a zip holds rows")
    with Progress("copying", store.record.chunk_count, "chunks") as progress:
        store.to_zip(out, names, progress=progress.to)
    print(f"{out}: {with_noun(len(names), 'layer')}")
    return 0


def _stem(stores: Sequence[Store]) -> str:
    """Return the name of a store without its suffix: ``run`` for ``s3://bucket/run.zarr``.

    Of several, what their names have in common, without numbers: ``run`` for ``run-0.zarr``, ...
    """
    stems = [Path(str(store)).absolute().stem for store in stores]
    if len(stems) == 1:
        return stems[0]
    columns = zip(*stems, strict=False)
    common = "".join(column[0] for column in takewhile(lambda each: len({*each}) == 1, columns))
    return common.rstrip("-_.0123456789") or "stores"


def _to_parquet(
    store: Store | Stores, names: list[str], out: str, options: argparse.Namespace
) -> None:
    from tensorstate_gpu._layers import arrow_rows  # noqa: F401 fail early without pyarrow

    layers = [store[name] for name in names]
    chosen = [layer for layer in layers if options.layer or len(layer)]
    if not chosen:
        raise ValueError(f"{store} holds no rows")
    write = _write_counts if options.counts else _write_rows
    with new_folder(out) as folder, _bar(chosen, options.counts) as bar:
        written = [write(layer, folder, bar) for layer in chosen]
    for layer in layers:
        if layer not in chosen:
            print(f"tensorstate: {printable_name(layer.name)}: no rows, no file", file=sys.stderr)
    for name, held in written:
        print(f"{Path(out) / name}: {held}")


def _bar(layers: Sequence[StoredRows], counts: bool) -> Progress:
    """Return a bar of the rows to be written; of counts, also of those to be counted first."""
    total = sum(map(len, layers))
    if counts:
        return Progress("counting and writing", 2 * total, "states")
    return Progress("writing", total, "states")


def _write_rows(layer: StoredRows, folder: Path, bar: Progress) -> tuple[str, str]:
    name = file_name(layer.name, ".parquet")
    layer.to_parquet(folder / name, progress=so_far(bar.add))
    return name, with_noun(len(layer), "row")


def _write_counts(layer: StoredRows, folder: Path, bar: Progress) -> tuple[str, str]:
    name = file_name(layer.name, ".parquet")
    on_counted, on_written = counted_then_written(so_far(bar.add), len(layer))
    counts = layer.counted(progress=so_far(on_counted))

    def on_states(states: int, *_: int) -> None:
        if on_written is not None:
            on_written(states, len(counts))

    counts.to_parquet(folder / name, progress=on_states)
    return name, with_noun(len(counts), "state")
