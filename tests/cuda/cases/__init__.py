"""What the CUDA kernels do: run on a CPU, under sanitizers, and by `make gpu` on a GPU."""

import sys

from tests.cuda.simt import machine

FILES = ("packing.py", "counting.py", "capture.py", "measures.py")
if sys.platform != "linux":  # the sanitizers are preloaded as on Linux
    FILES = ()
PROCESSES = {"": machine.preload}
