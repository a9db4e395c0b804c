"""``tensorstate verify``: checks all committed files of stores."""

import argparse
import json

from tensorstate_gpu._cli.opened_store import open_one, stores_of
from tensorstate_gpu._process.progress import Progress
from tensorstate_gpu.reporting.text import format_bytes, one_line, with_noun
from tensorstate_gpu.store import Store, Verification

_SHOWN_ORPHANS = 5


def verify(options: argparse.Namespace) -> int:
    """Check every committed file. Returns 1 if some are missing or damaged."""
    stores = [open_one(path)[0] for path in stores_of(options)]  # they need not belong together
    with Progress("checking", sum(store.record.chunk_count for store in stores), "chunks") as bar:
        found = [(store, _checked(store, bar)) for store in stores]
    if options.json:
        each = [_as_json(*one) for one in found]
        print(json.dumps(each[0] if len(each) == 1 else {"stores": each}, indent=2))
    else:
        for one in found:
            _print(*one)
    return 0 if all(checked.good for _, checked in found) else 1


def _checked(store: Store, bar: Progress) -> Verification:
    before = bar.done
    return store.verify(lambda chunks, *_: bar.to(before + chunks))


def _as_json(store: Store, found: Verification) -> dict[str, object]:
    parts = ("good", "chunks", "bytes", "rows", "problems", "orphans")
    return {"path": str(store), **{part: getattr(found, part) for part in parts}}


def _print(store: Store, found: Verification) -> None:
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
