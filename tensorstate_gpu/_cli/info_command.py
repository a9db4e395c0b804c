"""``tensorstate info``: prints what a store's commit record contains, without reading states."""

import argparse
import json
from typing import Any

from tensorstate_gpu._cli.opened_store import open_store
from tensorstate_gpu.reporting.text import (
    format_bytes,
    format_number,
    printable_name,
    text_table,
    with_noun,
)
from tensorstate_gpu.store import Stores


def info(options: argparse.Namespace) -> int:
    """Print what the commit record contains."""
    store, _ = open_store(options)
    summary = store.info()
    if options.json:
        print(json.dumps(summary, indent=2))
        return 0
    if isinstance(store, Stores):
        _print_stores(summary)
    else:
        _print_store(summary)
    print(text_table([_COLUMNS, *map(_info_row, summary["layers"])]) if len(store) else "no layers")
    return 0


def _print_store(summary: dict[str, Any]) -> None:
    print(f"path       {summary['path']}")
    print(f"format     {summary['format']}, written by tensorstate_gpu {summary['version']}")
    print(f"started    {summary['started']}")
    commits = with_noun(summary["commits"], "commit")
    print(f"committed  {summary['committed'] or '-'} ({commits})")
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
    print(text_table([("store", "ended", "commits", "rows", "takes"), *rows]), end="\n\n")


_ENDS = {
    True: "properly",
    False: "not properly: a writer is at work, or was stopped",
    None: "unknown: an older version wrote it",
}

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
