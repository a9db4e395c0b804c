"""``tensorstate report``: prints a store's table of measures, and tables by label."""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from tensorstate_gpu._cli.opened_store import open_store
from tensorstate_gpu._cli.terminal import terminal_width
from tensorstate_gpu._process.progress import OnDone, Progress, so_far
from tensorstate_gpu.errors import RowsNotKept
from tensorstate_gpu.reporting import LabelTable, Report
from tensorstate_gpu.reporting.label_table import with_divergences
from tensorstate_gpu.reporting.layer_report import (
    Measured,
    measured_counts,
    measured_groups,
    measured_layer,
    reading_counts,
)
from tensorstate_gpu.reporting.network_report import summarise
from tensorstate_gpu.reporting.page.write import check_page
from tensorstate_gpu.store import Store, Stores
from tensorstate_gpu.store.stored_rows import StoredRows


def report(options: argparse.Namespace) -> int:
    """Print the table of measures, and optionally a table by label for each layer; write a page."""
    if options.divergences and options.html is None:
        raise ValueError("--divergences are shown on the page: --html FILE")
    options.by_label |= options.divergences
    store, results = open_store(options)
    if not len(store):
        raise ValueError(f"{store} holds no rows")
    if options.html is not None:
        check_page(options.html)
    whole = _measured(store, options, results)
    if options.html is not None:
        whole.to_html(options.html, origin=store.report_origin)
    if options.json:
        fields = dataclasses.replace(whole, by_label=()).as_dict()
        print(json.dumps(fields | (_as_json(whole.by_label) if options.by_label else {}), indent=2))
        return 0
    print(whole.to_text(terminal_width()))
    if options.html is not None:
        print(f"\nThe page with charts: {options.html}")
    return 0


def _measured(store: Store | Stores, options: argparse.Namespace, results: Path | None) -> Report:
    by_label: bool = options.by_label
    out_of_step: bool = options.include_out_of_step
    every: Sequence[StoredRows] = store.efficiency_layers
    layers = [layer for layer in every if len(layer)] or every  # counting none raises the error
    reasons = {layer.name: _missing_labels_reason(layer) for layer in layers}
    with Progress("measuring", sum(map(len, layers)), "states") as progress:
        measured = [
            _measure_layer(layer, by_label and reasons[layer.name] is None, progress.add)
            for layer in layers
        ]
    missing = [name for name in store if name not in reasons]
    whole = _summary([each for each, _ in measured], missing, results, out_of_step)
    if isinstance(store, Stores):
        whole = dataclasses.replace(whole, notes=tuple(store.report_notes))
    if not by_label:
        return whole
    tables = [
        table or LabelTable(layer.name, missing=reasons[layer.name])
        for layer, (_, table) in zip(layers, measured, strict=True)
    ]
    compared = with_divergences(tables, layers, always=options.divergences)
    return dataclasses.replace(whole, by_label=compared)


def _measure_layer(
    layer: StoredRows, by_label: bool, on_measured: OnDone
) -> tuple[Measured, LabelTable | None]:
    """Measure a layer, also by label if that is wanted: its rows are counted once for both."""
    if not by_label:
        return measured_layer(layer, on_measured), None
    with reading_counts(layer, on_measured) as on_read:
        try:
            groups = layer.counted_groups_by(progress=so_far(on_read))
        except RowsNotKept:
            counts = layer.counted_by(progress=so_far(on_read))
            table = LabelTable.of_counts(layer.name, counts, on_read)
            return measured_counts(layer, layer.counted(), None, on_read), table
        table = LabelTable.of_groups(layer.name, groups, on_read)
        first, *others = groups.values()
        return measured_groups(layer, first.merge(*others), on_read), table


def _summary(
    layers: list[Measured], missing: list[str], results: Path | None, out_of_step: bool
) -> Report:
    if results is None or not results.exists():
        return summarise(layers, None, 2, missing, out_of_step)
    try:
        saved = json.loads(results.read_text())
        if not isinstance(saved, dict):
            raise ValueError(f"a {type(saved).__name__}")
        accuracy, beta = saved.get("accuracy"), saved.get("beta", 2)
        return summarise(layers, accuracy, beta, missing, out_of_step)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{results} is not what demo --save wrote: {error}") from error


def _missing_labels_reason(layer: StoredRows) -> str | None:
    if layer.unassigned_count:
        return f"{layer.unassigned_count} of {len(layer)} states belong to no known input"
    labels, instances = layer.note_count("labels"), layer.instance_count
    if not labels:
        return "no labels were stored"
    if labels < instances:
        return f"labels were stored for {labels} of {instances} instances"
    return None


def _as_json(tables: Sequence[LabelTable]) -> dict[str, object]:
    told = {
        table.layer: {name: getattr(table, name) for name in _INFORMATION}
        for table in tables
        if table.information is not None
    }
    return {
        "labels": {table.layer: table.as_list() for table in tables},
        "label_information": told,
        "not_compared": {each.layer: each.not_compared for each in tables if each.not_compared},
    }


_INFORMATION = ("information", "lower", "upper", "quality")
