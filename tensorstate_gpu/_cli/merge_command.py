"""``tensorstate merge``: adds up stores of counts, or one range of their states."""

import argparse

from tensorstate_gpu._process.progress import Progress
from tensorstate_gpu.reporting.text import with_noun
from tensorstate_gpu.store import merge_counts, merge_range


def merge(options: argparse.Namespace) -> int:
    """Add up all counts, or those of a range of the states."""
    with Progress("merging", 0, "chunks") as progress:
        if options.range is None:
            counts = merge_counts(options.paths, options.to, progress=progress.to)
        else:
            number, of = options.range
            counts = merge_range(options.paths, number, of, options.to, progress=progress.to)
    what = f"{with_noun(counts.total, 'state')}, {len(counts):,} distinct"
    ranged = "" if options.range is None else f" (range {number} of {of})"
    print(f"{options.to}: {what}{ranged}")
    return 0
