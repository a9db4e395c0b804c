"""What the command ``tensorstate`` does with stores: report, verify, info, export."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._cli.progress import Progress
from tensorstate_gpu._layers.accumulator import count_chunks
from tensorstate_gpu._process.new_files import new_folder
from tensorstate_gpu._states.state_counts import StateCounts, merge_all
from tensorstate_gpu.reporting.measures import LayerReport, Report, summarise
from tensorstate_gpu.reporting.text import number, one_line, plain, several, size, text_table
from tensorstate_gpu.store import Store
from tensorstate_gpu.store.files import files_at
from tensorstate_gpu.store.folder import Folder
from tensorstate_gpu.store.keys import state_key
from tensorstate_gpu.store.record import KEY

if TYPE_CHECKING:
    from tensorstate_gpu.store.stored_layer import StoredLayer

STATES, RESULTS = "states.zarr", "results.json"  # in the folder that demo --save writes
_SHOWN_ORPHANS = 5

ByLabel = dict[Any, StateCounts]


def open_store(path: str) -> tuple[Store, Path | None]:
    """The store at a path or URL, or that of a saved demo, then with its results."""
    files = files_at(path)
    if isinstance(files, Folder):
        folder = files.path
        if not (folder / KEY).exists() and (folder / STATES).exists():
            return Store(folder / STATES), folder / RESULTS
    return Store(path), None


def _chunks(store: Store) -> int:
    layers = [layer for layer in store.record.layers.values() if layer is not None]
    arrays = [array for layer in layers for array in (layer.states, layer.labels)]
    return sum(len(array.checksums) for array in arrays if array is not None)


# ---- report --------------------------------------------------------------------------------------


def report(options: argparse.Namespace) -> int:
    """Print the table of measures, and one of each label."""
    store, results = open_store(options.store)
    if not len(store):
        raise ValueError(f"{store} holds no rows")
    layers = store.efficiency_layers
    labelled = {layer.name: _why_no_labels(layer) is None for layer in layers}
    wanted = {name for name in labelled if options.by_label and labelled[name]}
    with Progress("counting", sum(map(len, layers)), "states") as progress:
        counted = [_count(layer, layer.name in wanted, progress) for layer in layers]
    measures = [
        LayerReport.of(layer.name, counts, layer.axis)
        for layer, (counts, _) in zip(layers, counted, strict=True)
    ]
    summary = _summary(measures, results)
    by_label = {layer.name: by for layer, (_, by) in zip(layers, counted, strict=True)}
    if options.json:
        labels = {"labels": {name: _as_json(by) for name, by in by_label.items()}}
        _print_json(summary.as_dict() | (labels if options.by_label else {}))
        return 0
    tables = [_label_table(layer, by_label[layer.name]) for layer in layers]
    print("\n\n".join([str(summary), *(tables if options.by_label else [])]))
    return 0


def _count(
    layer: "StoredLayer", by_label: bool, progress: Progress
) -> tuple[StateCounts, ByLabel | None]:
    chunks = layer.chunks()  # raises where there are none
    assert layer.neurons is not None
    if not by_label:
        return count_chunks(_watched(chunks, progress), layer.neurons), None
    counts = layer.counts_by()
    progress.add(len(layer))
    return merge_all(list(counts.values()), layer.neurons), counts


def _watched(
    chunks: Iterable[NDArray[np.uint8]], progress: Progress
) -> Iterator[NDArray[np.uint8]]:
    for chunk in chunks:
        yield chunk
        progress.add(len(chunk))


def _summary(layers: list[LayerReport], results: Path | None) -> Report:
    if results is None or not results.exists():
        return summarise(layers, None, 2)
    try:
        saved = json.loads(results.read_text())
        if not isinstance(saved, dict):
            raise ValueError(f"a {type(saved).__name__}")
        return summarise(layers, saved.get("accuracy"), saved.get("beta", 2))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{results} is not what demo --save wrote: {error}") from error


def _why_no_labels(layer: "StoredLayer") -> str | None:
    committed = layer.committed
    if committed is None or committed.labels is None:
        return "no labels were stored"
    if committed.labels.rows < committed.instances:
        return f"labels were stored for {committed.labels.rows} of {committed.instances} instances"
    return None


def _label_table(layer: "StoredLayer", counts: ByLabel | None) -> str:
    if counts is None:
        return f"{plain(layer.name)}: {_why_no_labels(layer)}"
    rows = [LayerReport.of(plain(str(label)), by, None).cells() for label, by in counts.items()]
    headings = ("label", "states", "distinct", "entropy", "efficiency", "ceiling")
    table = text_table([headings, *((row[0], *row[3:]) for row in rows)])
    return f"{plain(layer.name)}, by label\n{table}"


def _as_json(counts: ByLabel | None) -> list[dict[str, Any]] | None:
    if counts is None:
        return None
    measures = {label: LayerReport.of("", by, None) for label, by in counts.items()}
    names = ("states", "distinct", "entropy", "efficiency", "ceiling")
    return [
        {"label": label, **{name: getattr(of_label, name) for name in names}}
        for label, of_label in measures.items()
    ]


# ---- verify --------------------------------------------------------------------------------------


def verify(options: argparse.Namespace) -> int:
    """Check every committed file; 1 when some are missing or damaged."""
    store, _ = open_store(options.store)
    with Progress("checking", _chunks(store), "chunks") as progress:
        found = store.verify(progress.to)
    if options.json:
        parts = ("good", "chunks", "bytes", "rows", "problems", "orphans")
        _print_json({"path": str(store), **{part: getattr(found, part) for part in parts}})
        return 0 if found.good else 1
    for problem in found.problems:
        print(one_line(problem))
    if found.good:
        read = f"{found.rows:,} rows in {found.chunks:,} chunks ({size(found.bytes)})"
        print(f"{store}: {read}, all as committed")
    else:
        print(f"{store}: {several(len(found.problems), 'problem')}")
    if found.orphans:
        shown = ", ".join([*found.orphans[:_SHOWN_ORPHANS], "..."][: len(found.orphans)])
        print(f"{several(len(found.orphans), 'file')} that no commit lists: {shown}")
    return 0 if found.good else 1


# ---- info ----------------------------------------------------------------------------------------


def info(options: argparse.Namespace) -> int:
    """Print what the commit record tells."""
    store, _ = open_store(options.store)
    about = store.info()
    if options.json:
        _print_json(about)
        return 0
    print(f"path       {about['path']}")
    print(f"format     {about['format']}, written by tensorstate_gpu {about['version']}")
    print(f"started    {about['started']}")
    print(f"committed  {about['committed'] or '-'} ({several(about['commits'], 'commit')})")
    print(f"takes      {size(about['bytes'])}{_others(about['not_committed'])}\n")
    print(text_table([_COLUMNS, *map(_cells, about["layers"])]) if len(store) else "no layers")
    return 0


_COLUMNS = (
    "layer", "neurons", "axis", "fires", "rows", "instances", "rows each", "labels", "chunks",
    "takes",
)  # fmt: skip


def _cells(layer: dict[str, Any]) -> tuple[str, ...]:
    counts = ("rows", "instances", "states_per_instance", "labels", "chunks")
    return (
        plain(layer["name"]),
        number(layer["neurons"]),
        number(layer["axis"]),
        _fires(layer),
        *(number(layer[name]) for name in counts),
        size(layer["bytes"]),
    )


def _fires(layer: dict[str, Any]) -> str:
    if "firing" in layer:
        return plain(str(layer["firing"]))
    threshold = layer.get("threshold")
    if isinstance(threshold, list):
        return "by neuron"
    return "-" if threshold is None else f"> {threshold}"


def _others(found: dict[str, int] | None) -> str:
    if found is None or not found["files"]:
        return ""
    return f", and {several(found['files'], 'file')} that no commit lists {size(found['bytes'])}"


# ---- export --------------------------------------------------------------------------------------


def export(options: argparse.Namespace) -> int:
    """Write layers as Parquet files to a new folder, or to a new zip."""
    store, _ = open_store(options.store)
    names = list(dict.fromkeys(options.layer or store.names))
    if unknown := [name for name in names if name not in store.names]:
        raise ValueError(f"{store} has no layer {unknown[0]!r}; there are {store.names}")
    counts = ".counts" if options.counts else ""
    out = f"{_stem(store)}{counts}.{options.to}" if options.out is None else options.out
    if options.to == "parquet":
        _to_parquet(store, names, out, options)
        return 0
    if options.counts:
        raise ValueError("--counts is for --to parquet; a zip holds rows")
    with Progress("copying", _chunks(store), "chunks") as progress:
        store.to_zip(out, names, progress=progress.to)
    print(f"{out}: {several(len(names), 'layer')}")
    return 0


def _stem(store: Store) -> str:
    """The name of a store, without its ending: ``run`` of ``s3://bucket/run.zarr``."""
    return Path(str(store)).absolute().stem


def _to_parquet(store: Store, names: list[str], out: str, options: argparse.Namespace) -> None:
    from tensorstate_gpu._layers import arrow_rows  # noqa: F401 what is missing is told before the work

    layers = [store[name] for name in names]
    chosen = [layer for layer in layers if options.layer or len(layer)]
    if not chosen:
        raise ValueError(f"{store} holds no rows")
    total = sum(map(len, chosen))
    with new_folder(out) as folder, Progress("writing", total, "states") as progress:
        written = [_write(layer, folder, options.counts, progress) for layer in chosen]
    for layer in layers:
        if layer not in chosen:
            print(f"tensorstate: {plain(layer.name)}: no rows, no file", file=sys.stderr)
    for name, held in written:
        print(f"{Path(out) / name}: {held}")


def _write(
    layer: "StoredLayer", folder: Path, only_counts: bool, progress: Progress
) -> tuple[str, str]:
    name = f"{state_key(layer.name)}.parquet"
    if only_counts:
        counts, _ = _count(layer, False, progress)
        counts.to_parquet(folder / name)
        return name, several(len(counts), "state")
    before = progress.done
    layer.to_parquet(folder / name, progress=lambda rows: progress.to(before + rows))
    return name, several(len(layer), "row")


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))
