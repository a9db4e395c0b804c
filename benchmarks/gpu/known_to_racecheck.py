"""A plugin for pytest under racecheck, which knows barriers, and no other order in shared memory.

It calls a plain read a race with the atomic operation that changes the same word: with this plugin
such reads are atomic too. Nor does it know of a row that is published by a fence and a flag, as in
the cache of wide rows: with this plugin they are counted without the cache. What it still reports is
not meant to be so.
"""

from tensorstate_gpu.cuda import device, launch, wide_table

device.source_code = lambda source: f"#define ATOMIC_READS\n{launch.source_code(source)}"
wide_table._CACHE_ENTRY_BYTES = 1 << 30  # more than there is
