"""``tensorstate verify``: checks all committed files of a store."""

import argparse
import json

from tensorstate_gpu._cli.opened_store import committed_chunks, open_store
from tensorstate_gpu._process.progress import Progress
from tensorstate_gpu.reporting.text import format_bytes, one_line, with_noun

_SHOWN_ORPHANS = 5


def verify(options: argparse.Namespace) -> int:
    """Check every committed file. Returns 1 if some are missing or damaged."""
    store, _ = open_store(options.store)
    with Progress("checking", committed_chunks(store), "chunks") as progress:
        found = store.verify(progress.to)
    if options.json:
        parts = ("good", "chunks", "bytes", "rows", "problems", "orphans")
        values = {"path": str(store), **{part: getattr(found, part) for part in parts}}
        print(json.dumps(values, indent=2))
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
