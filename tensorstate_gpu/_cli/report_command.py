"""``tensorstate report``: prints a store's table of measures, and tables by label."""

import argparse
import dataclasses
import functools
import json
from pathlib import Path

from tensorstate_gpu._cli.opened_store import count_layer, open_store
from tensorstate_gpu._process.progress import Progress
from tensorstate_gpu._states.grouped_counts import GroupedCounts
from tensorstate_gpu.reporting import LabelTable, Report
from tensorstate_gpu.reporting.layer_report import (
    NOT_BY_GROUP,
    Measured,
    measured_counts,
    measured_groups,
)
from tensorstate_gpu.reporting.report_table import summarise
from tensorstate_gpu.store import StoredLayer


def report(options: argparse.Namespace) -> int:
    """Print the table of measures, and optionally a table by label for each layer."""
    store, results = open_store(options.store)
    if not len(store):
        raise ValueError(f"{store} holds no rows")
    # If no layer has rows, counting raises the error.
    layers = [layer for layer in store.efficiency_layers if len(layer)] or store.efficiency_layers
    names = {layer.name for layer in layers}
    labelled = {layer.name: _missing_labels_reason(layer) is None for layer in layers}
    wanted = {name for name in labelled if options.by_label and labelled[name]}
    with Progress("counting", sum(map(len, layers)), "states") as progress:
        measured = [_measure_layer(layer, layer.name in wanted, progress) for layer in layers]
    missing = [name for name in store if name not in names]
    summary = _summary([whole for whole, _ in measured], missing, results)
    if not options.by_label:
        print(json.dumps(summary.as_dict(), indent=2) if options.json else summary)
        return 0
    tables = [
        table or LabelTable(layer.name, missing=_missing_labels_reason(layer))
        for layer, (_, table) in zip(layers, measured, strict=True)
    ]
    if options.json:
        print(json.dumps(summary.as_dict() | _as_json(tables), indent=2))
    else:
        print(dataclasses.replace(summary, by_label=tuple(tables)))
    return 0


def _measure_layer(
    layer: StoredLayer, by_label: bool, progress: Progress
) -> tuple[Measured, LabelTable | None]:
    """Measure a layer, also by label if that is wanted."""
    before = progress.done

    def counted(rows: int, *_: int) -> None:
        progress.to(before + rows)

    if by_label:
        groups = layer.grouped_by(progress=counted)
        whole = measured_groups(layer, functools.reduce(GroupedCounts.merge, groups.values()))
        return whole, LabelTable.of_groups(layer.name, groups)
    try:
        return measured_groups(layer, layer.grouped(progress=counted)), None
    except NOT_BY_GROUP:
        return measured_counts(layer, count_layer(layer, progress)), None


def _summary(layers: list[Measured], missing: list[str], results: Path | None) -> Report:
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


def _as_json(tables: list[LabelTable]) -> dict[str, object]:
    told = {
        table.layer: {name: getattr(table, name) for name in _INFORMATION}
        for table in tables
        if table.information is not None
    }
    return {"labels": {table.layer: table.as_list() for table in tables}, "label_information": told}


_INFORMATION = ("information", "lower", "upper", "quality")
