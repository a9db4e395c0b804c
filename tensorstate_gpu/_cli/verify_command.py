"""``tensorstate verify``: checks all committed files of stores."""

import argparse
import contextlib
import json
from collections.abc import Sequence

from tensorstate_gpu._cli.opened_store import open_one, stores_of
from tensorstate_gpu._process.progress import Progress
from tensorstate_gpu.errors import NoStore
from tensorstate_gpu.reporting.text import format_bytes, one_line, printable_name, with_noun
from tensorstate_gpu.store import Store, Verification
from tensorstate_gpu.store.counts_verification import RecordedCounts, recorded_counts

_SHOWN_ORPHANS = 5


def verify(options: argparse.Namespace) -> int:
    """Check every committed file. Returns 1 if some are missing or damaged."""
    stores = [store for path in stores_of(options) for store in _recorded(path)]
    with Progress("checking", sum(map(_chunk_count, stores)), "chunks") as bar:
        found = [(store, _checked(store, bar)) for store in stores]
    if options.json:
        each = [_as_json(*one) for one in found]
        print(json.dumps(each[0] if len(each) == 1 else {"stores": each}, indent=2))
    else:
        for one in found:
            _print(*one)
    return 0 if all(checked.good for _, checked in found) else 1


def _recorded(path: str) -> Sequence[Store | RecordedCounts]:
    """Open what is at a path: a store, one of counts, or all ranges of one."""
    try:
        return [open_one(path)[0]]
    except NoStore:
        with contextlib.suppress(NoStore):
            return recorded_counts(path)
        raise


def _chunk_count(store: Store | RecordedCounts) -> int:
    return store.record.chunk_count if isinstance(store, Store) else store.chunk_count


def _checked(store: Store | RecordedCounts, bar: Progress) -> Verification:
    before = bar.done
    return store.verify(lambda chunks, *_: bar.to(before + chunks))


def _as_json(store: Store | RecordedCounts, found: Verification) -> dict[str, object]:
    parts = ("good", "chunks", "bytes", "rows", "problems", "orphans")
    return {"path": str(store), **{part: getattr(found, part) for part in parts}}


def _print(store: Store | RecordedCounts, found: Verification) -> None:
    name = printable_name(str(store))
    for problem in found.problems:
        print(one_line(problem))
    if found.good:
        read = f"{with_noun(found.rows, 'row')} in {with_noun(found.chunks, 'chunk')}"
        print(f"{name}: {read} ({format_bytes(found.bytes)}), all as committed")
    else:
        print(f"{name}: {with_noun(len(found.problems), 'problem')}")
    if found.orphans:
        first = map(printable_name, found.orphans[:_SHOWN_ORPHANS])
        shown = ", ".join([*first, "..."][: len(found.orphans)])
        print(f"{with_noun(len(found.orphans), 'file')} that no commit lists: {shown}")
