"""``tensorstate count``: counts a layer of a store, or a part of it, to a store of counts."""

import argparse

from tensorstate_gpu._cli.opened_store import only_layer, open_store
from tensorstate_gpu._process.progress import Progress
from tensorstate_gpu.reporting.text import with_noun
from tensorstate_gpu.store import count_part


def count(options: argparse.Namespace) -> int:
    """Count a part of the rows; all of them are the only part of one."""
    store, _ = open_store(options)
    layer = only_layer(store, options.layer)
    number, of = options.part
    with Progress.in_percent("counting and writing") as bar:
        if layer.keeps_counts and of == 1:  # they are no rows of which there could be parts
            counts = layer.histogram(to=options.to, progress=bar.to_share)
        else:
            counts = count_part(layer, number, of, options.to, progress=bar.to_share)
    what = f"{with_noun(counts.total, 'state')}, {len(counts):,} distinct"
    print(f"{options.to}: {what}{f' (part {number} of {of})' if of > 1 else ''}")
    return 0
