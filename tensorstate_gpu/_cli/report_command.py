"""``tensorstate report``: prints a store's table of measures, and tables by label."""

import argparse
import json
from pathlib import Path
from typing import Any

from tensorstate_gpu._cli.opened_store import ByLabel, count_layer, open_store
from tensorstate_gpu._process.progress import Progress
from tensorstate_gpu.reporting.report_table import LayerReport, Report, summarise
from tensorstate_gpu.reporting.text import printable_name, text_table
from tensorstate_gpu.store import StoredLayer


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
        LayerReport.of_layer(layer, counts)
        for layer, (counts, _) in zip(layers, counted, strict=True)
    ]
    summary = _summary(measures, [name for name in store if name not in measured], results)
    by_label = {layer.name: by for layer, (_, by) in zip(layers, counted, strict=True)}
    if options.json:
        labels = {"labels": {name: _as_json(by) for name, by in by_label.items()}}
        print(json.dumps(summary.as_dict() | (labels if options.by_label else {}), indent=2))
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


def _missing_labels_reason(layer: StoredLayer) -> str | None:
    committed = layer.committed
    if committed is not None and committed.unassigned:
        return f"{committed.unassigned} of {committed.states.rows} states belong to no known input"
    if committed is None or committed.labels is None:
        return "no labels were stored"
    if committed.labels.rows < committed.instances:
        return f"labels were stored for {committed.labels.rows} of {committed.instances} instances"
    return None


def _label_table(layer: StoredLayer, counts: ByLabel | None) -> str:
    if counts is None:
        return f"{printable_name(layer.name)}: {_missing_labels_reason(layer)}"
    rows = [LayerReport.of(printable_name(str(label)), by).cells() for label, by in counts.items()]
    headings = ("label", "states", "distinct", "entropy", "efficiency", "ceiling")
    table = text_table([headings, *((row[0], *row[3:]) for row in rows)])
    return f"{printable_name(layer.name)}, by label\n{table}"


def _as_json(counts: ByLabel | None) -> list[dict[str, Any]] | None:
    if counts is None:
        return None
    measures = {label: LayerReport.of("", by) for label, by in counts.items()}
    names = ("states", "distinct", "entropy", "efficiency", "ceiling")
    return [
        {"label": label, **{name: getattr(of_label, name) for name in names}}
        for label, of_label in measures.items()
    ]
