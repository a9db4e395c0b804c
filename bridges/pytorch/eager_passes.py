"""PyTorch: lets compiled parts of a model run without torch.compile, while a pass is followed."""

import sys
import threading
from contextlib import AbstractContextManager

import torch

from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock


class _Following(threading.local):
    """How many passes this thread follows."""

    passes = 0


class EagerPasses:
    """How many passes run without torch.compile now, in all threads of this process.

    PyTorch has one setting for the whole process: the first pass to begin changes it, and the last
    to end puts it back. It is replaced by one that differs between threads, so that compiled models
    of other threads stay compiled.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._running = 0
        self._stance: AbstractContextManager[None] | None = None
        self._here = _Following()

    def begin(self) -> bool:
        """Begin such a pass. Return False where PyTorch cannot do so now."""
        with self._lock:
            if self._stance is None and "torch._dynamo" in sys.modules:  # else nothing is compiled
                before = _setting_now()
                try:
                    self._stance = torch.compiler.set_stance("force_eager")
                except (AttributeError, RuntimeError):  # torch before 2.6; in a compiled function
                    return False
                if before is not None:
                    _keep_in_other_threads(before, self._here)
            self._running += 1
        self._here.passes += 1
        return True

    def end(self) -> None:
        """End such a pass."""
        self._here.passes -= 1
        with self._lock:
            self._running -= 1
            if not self._running and self._stance is not None:
                self._stance.__exit__(None, None, None)
                self._stance = None


def _setting_now() -> object:
    """Return PyTorch's setting, or None if it is not where it was in 2.13."""
    return getattr(sys.modules.get("torch._dynamo.eval_frame"), "_stance", None)


def _keep_in_other_threads(before: object, following: _Following) -> None:
    """Let the setting of now hold in threads that follow a pass, and one from before in others."""
    module = sys.modules["torch._dynamo.eval_frame"]
    module._stance = _SettingByThread(_setting_now(), before, following)  # type: ignore[attr-defined]


class _SettingByThread:
    """One setting of PyTorch in threads that follow a pass, and another in all others."""

    def __init__(self, here: object, elsewhere: object, following: _Following) -> None:
        self._here, self._elsewhere, self._following = here, elsewhere, following

    def __getattr__(self, name: str) -> object:
        return getattr(self._here if self._following.passes else self._elsewhere, name)


EAGER = EagerPasses()
