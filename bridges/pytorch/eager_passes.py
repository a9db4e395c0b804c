"""PyTorch: lets compiled parts of a model run without torch.compile, while a pass is followed."""

import sys
from contextlib import AbstractContextManager

import torch

from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock


class EagerPasses:
    """How many passes run without torch.compile now, in all threads of this process.

    PyTorch has one setting for the whole process: the first pass to begin changes it, and the last
    to end puts it back. Compiled models of other threads run without torch.compile meanwhile, too.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._running = 0
        self._stance: AbstractContextManager[None] | None = None

    def begin(self) -> bool:
        """Begin such a pass. Return False where PyTorch cannot do so now."""
        with self._lock:
            if self._stance is None and "torch._dynamo" in sys.modules:  # else nothing is compiled
                try:
                    self._stance = torch.compiler.set_stance("force_eager")
                except (AttributeError, RuntimeError):  # torch before 2.6; in a compiled function
                    return False
            self._running += 1
        return True

    def end(self) -> None:
        """End such a pass."""
        with self._lock:
            self._running -= 1
            if not self._running and self._stance is not None:
                self._stance.__exit__(None, None, None)
                self._stance = None


EAGER = EagerPasses()
