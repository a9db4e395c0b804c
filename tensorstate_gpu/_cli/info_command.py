"""``tensorstate info``: prints what the records of stores contain, without reading states."""

import argparse
import json
from typing import Any

from tensorstate_gpu._cli.opened_store import open_store, stores_of
from tensorstate_gpu._cli.terminal import terminal_width
from tensorstate_gpu.errors import NoStore
from tensorstate_gpu.reporting.text import (
    format_bytes,
    format_number,
    printable_name,
    text_table,
    with_noun,
)
from tensorstate_gpu.store import Stores
from tensorstate_gpu.store.counts_info import describe_counts


def info(options: argparse.Namespace) -> int:
    """Print what the commit record contains, of stores of states or of counts."""
    try:
        store, _ = open_store(options)
    except NoStore:
        counts = _found_counts(options)
        if counts is None:
            raise
        _print_counts(counts, as_json=options.json)
        return 0
    summary = store.info()
    if options.json:
        print(json.dumps(summary, indent=2))
        return 0
    if isinstance(store, Stores):
        _print_stores(summary)
    else:
        _print_store(summary)
    print(_layer_table(summary["layers"]) if len(store) else "no layers")
    return 0


def _found_counts(options: argparse.Namespace) -> list[dict[str, Any]] | None:
    """Return what is known of stores of counts; None if some are none."""
    try:
        return [each for path in stores_of(options) for each in describe_counts(path)]
    except NoStore:
        return None


def _print_counts(found: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found[0] if len(found) == 1 else {"counts": found}, indent=2))
        return
    rows = [
        (
            printable_name(each["path"]),
            *(format_number(each[what]) for what in ("neurons", "states", "distinct", "chunks")),
            format_bytes(each["bytes"]),
            "-" if each["share"] is None else printable_name(each["share"]),
        )
        for each in found
    ]
    headings = ("counts", "neurons", "states", "distinct", "chunks", "takes", "share")
    print(text_table([headings, *rows], terminal_width()))


def _print_store(summary: dict[str, Any]) -> None:
    version, started, committed = (
        printable_name(str(summary[what] or "-")) for what in ("version", "started", "committed")
    )
    print(f"path       {printable_name(summary['path'])}")
    print(f"format     {summary['format']}, written by tensorstate_gpu {version}")
    print(f"started    {started}")
    commits = with_noun(summary["commits"], "commit")
    print(f"committed  {committed} ({commits})")
    print(f"ended      {_ENDS[summary['closed']]}")
    others = _uncommitted_files(summary["not_committed"])
    print(f"takes      {format_bytes(summary['bytes'])}{others}\n")


def _print_stores(summary: dict[str, Any]) -> None:
    rows = [
        (
            printable_name(each["path"]),
            _ENDS[each["closed"]],
            format_number(each["commits"]),
            format_number(sum(layer["rows"] for layer in each["layers"])),
            format_bytes(each["bytes"]),
        )
        for each in summary["stores"]
    ]
    headings = ("store", "ended", "commits", "rows", "takes")
    print(text_table([headings, *rows], terminal_width()), end="\n\n")


_ENDS = {
    True: "properly",
    False: "not properly: a writer is at work, or was stopped",
    None: "unknown: an older version wrote it",
}

_COLUMNS = (
    "layer", "neurons", "axis", "fires", "rows", "instances", "rows each", "labels", "chunks",
    "takes",
)  # fmt: skip


# Of layers that keep counts, if there are some.
_COLUMNS_OF_COUNTS = ("distinct", "runs")


def _layer_table(layers: list[dict[str, Any]]) -> str:
    more = any(layer["keep"] == "counts" for layer in layers)
    rows = [_info_row(layer) + (_counts_cells(layer) if more else ()) for layer in layers]
    headings = _COLUMNS + (_COLUMNS_OF_COUNTS if more else ())
    return text_table([headings, *rows], terminal_width())


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


def _counts_cells(layer: dict[str, Any]) -> tuple[str, ...]:
    if layer["keep"] != "counts":
        return "-", "-"
    return f"<= {layer['distinct_at_most']:,}", format_number(layer["runs"])


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
