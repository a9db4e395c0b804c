"""``tensorstate report``, ``verify`` and ``info``."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorstate_gpu._cli.progress import Progress
from tensorstate_gpu.reporting.measures import LayerReport, Report, summarise
from tensorstate_gpu.reporting.text import (
    format_bytes,
    format_number,
    one_line,
    printable_name,
    text_table,
    with_noun,
)

if TYPE_CHECKING:
    from tensorstate_gpu.store.stored_layer import StoredLayer
from tensorstate_gpu._cli.opened_store import ByLabel, committed_chunks, count_layer, open_store

_SHOWN_ORPHANS = 5


def report(options: argparse.Namespace) -> int:
    """Print the table of measures, and optionally a table by label for each layer."""
    store, results = open_store(options.store)
    if not len(store):
        raise ValueError(f"{store} holds no rows")
    # If no layer has rows, counting raises the error.
    layers = [layer for layer in store.efficiency_layers if len(layer)] or store.efficiency_layers
    measured = {layer.name for layer in layers}
    labelled = {layer.name: _missing_labels_reason(layer) is None for layer in layers}
    wanted = {name for name in labelled if options.by_label and labelled[name]}
    with Progress("counting", sum(map(len, layers)), "states") as progress:
        counted = [count_layer(layer, layer.name in wanted, progress) for layer in layers]
    measures = [
        LayerReport.of(layer.name, counts, layer.axis)
        for layer, (counts, _) in zip(layers, counted, strict=True)
    ]
    summary = _summary(measures, [name for name in store if name not in measured], results)
    by_label = {layer.name: by for layer, (_, by) in zip(layers, counted, strict=True)}
    if options.json:
        labels = {"labels": {name: _as_json(by) for name, by in by_label.items()}}
        print_json(summary.as_dict() | (labels if options.by_label else {}))
        return 0
    tables = [_label_table(layer, by_label[layer.name]) for layer in layers]
    print("\n\n".join([str(summary), *(tables if options.by_label else [])]))
    return 0


def _summary(layers: list[LayerReport], missing: list[str], results: Path | None) -> Report:
    if results is None or not results.exists():
        return summarise(layers, None, 2, missing)
    try:
        saved = json.loads(results.read_text())
        if not isinstance(saved, dict):
            raise ValueError(f"a {type(saved).__name__}")
        return summarise(layers, saved.get("accuracy"), saved.get("beta", 2), missing)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{results} is not what demo --save wrote: {error}") from error


def _missing_labels_reason(layer: "StoredLayer") -> str | None:
    committed = layer.committed
    if committed is None or committed.labels is None:
        return "no labels were stored"
    if committed.labels.rows < committed.instances:
        return f"labels were stored for {committed.labels.rows} of {committed.instances} instances"
    return None


def _label_table(layer: "StoredLayer", counts: ByLabel | None) -> str:
    if counts is None:
        return f"{printable_name(layer.name)}: {_missing_labels_reason(layer)}"
    rows = [
        LayerReport.of(printable_name(str(label)), by, None).cells() for label, by in counts.items()
    ]
    headings = ("label", "states", "distinct", "entropy", "efficiency", "ceiling")
    table = text_table([headings, *((row[0], *row[3:]) for row in rows)])
    return f"{printable_name(layer.name)}, by label\n{table}"


def _as_json(counts: ByLabel | None) -> list[dict[str, Any]] | None:
    if counts is None:
        return None
    measures = {label: LayerReport.of("", by, None) for label, by in counts.items()}
    names = ("states", "distinct", "entropy", "efficiency", "ceiling")
    return [
        {"label": label, **{name: getattr(of_label, name) for name in names}}
        for label, of_label in measures.items()
    ]


def verify(options: argparse.Namespace) -> int:
    """Check every committed file. Returns 1 if some are missing or damaged."""
    store, _ = open_store(options.store)
    with Progress("checking", committed_chunks(store), "chunks") as progress:
        found = store.verify(progress.to)
    if options.json:
        parts = ("good", "chunks", "bytes", "rows", "problems", "orphans")
        print_json({"path": str(store), **{part: getattr(found, part) for part in parts}})
        return 0 if found.good else 1
    for problem in found.problems:
        print(one_line(problem))
    if found.good:
        read = f"{found.rows:,} rows in {found.chunks:,} chunks ({format_bytes(found.bytes)})"
        print(f"{store}: {read}, all as committed")
    else:
        print(f"{store}: {with_noun(len(found.problems), 'problem')}")
    if found.orphans:
        shown = ", ".join([*found.orphans[:_SHOWN_ORPHANS], "..."][: len(found.orphans)])
        print(f"{with_noun(len(found.orphans), 'file')} that no commit lists: {shown}")
    return 0 if found.good else 1


def info(options: argparse.Namespace) -> int:
    """Print what the commit record contains."""
    store, _ = open_store(options.store)
    summary = store.info()
    if options.json:
        print_json(summary)
        return 0
    print(f"path       {summary['path']}")
    print(f"format     {summary['format']}, written by tensorstate_gpu {summary['version']}")
    print(f"started    {summary['started']}")
    commits = with_noun(summary["commits"], "commit")
    print(f"committed  {summary['committed'] or '-'} ({commits})")
    others = _uncommitted_files(summary["not_committed"])
    print(f"takes      {format_bytes(summary['bytes'])}{others}\n")
    print(text_table([_COLUMNS, *map(_info_row, summary["layers"])]) if len(store) else "no layers")
    return 0


_COLUMNS = (
    "layer", "neurons", "axis", "fires", "rows", "instances", "rows each", "labels", "chunks",
    "takes",
)  # fmt: skip


def _info_row(layer: dict[str, Any]) -> tuple[str, ...]:
    counts = ("rows", "instances", "states_per_instance", "labels", "chunks")
    return (
        printable_name(layer["name"]),
        format_number(layer["neurons"]),
        format_number(layer["axis"]),
        _firing_text(layer),
        *(format_number(layer[name]) for name in counts),
        format_bytes(layer["bytes"]),
    )


def _firing_text(layer: dict[str, Any]) -> str:
    if "firing" in layer:
        return printable_name(str(layer["firing"]))
    threshold = layer.get("threshold")
    if isinstance(threshold, list):
        return "by neuron"
    return "-" if threshold is None else f"> {threshold}"


def _uncommitted_files(found: dict[str, int] | None) -> str:
    if found is None or not found["files"]:
        return ""
    files, size = with_noun(found["files"], "file"), format_bytes(found["bytes"])
    return f", and {files} that no commit lists {size}"


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))
