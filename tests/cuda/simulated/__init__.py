"""A simulated CUDA: a ``cupy`` of NumPy, and torch tensors that say they are on a GPU.

The product's own code runs on it unchanged. Streams are queues that run as late as they may, in an
order by chance (scheduler.py); memory is reused in the order of streams, is full of garbage, and
can be refused (memory.py); the kernels are compiled by g++ (kernels.py). So what does not wait, or
frees or reads too early, gives wrong results in some of many programs.

It does not show: speed; caches, and the order of memory accesses inside a kernel; threads that
really run at the same time; what CuPy and torch do beyond what is written here.
"""

from .library import install, reset

__all__ = ["install", "reset"]
