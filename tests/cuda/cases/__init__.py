"""What the CUDA backend does: on a simulated CUDA, under sanitizers; by `make gpu` on a GPU."""

import sys

from tests.cuda.simt import machine

FILES = ("packing.py", "counting.py", "tables.py", "tables_without_room.py", "capture.py")
FILES += ("measures.py", "streams.py", "shortage.py", "neurons.py", "stages.py", "by_chance.py")
FILES += ("small_batches.py", "refused_rows.py", "interrupts.py")
FILES += ("simulated.py", "recordings.py", "host_work.py")  # these on no GPU
FILES += ("plans.py", "last_blocks.py", "compiled.py")
if sys.platform != "linux":  # the sanitizers are preloaded as on Linux
    FILES = ()
PROCESSES = {"": machine.preload}
