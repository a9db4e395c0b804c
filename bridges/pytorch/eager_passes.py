"""PyTorch: lets compiled parts of a model run without torch.compile, while a pass is followed."""

import sys
from contextlib import AbstractContextManager, suppress

import torch

from tensorstate_gpu._process.shared_setting import SharedSetting


class EagerPasses(SharedSetting):
    """Lets passes run without torch.compile, in the threads that begin them.

    PyTorch has one setting for the whole process. It is replaced by one that differs between
    threads, so that compiled models of other threads stay compiled.
    """

    _stance: AbstractContextManager[None] | None = None

    def _change(self) -> bool:
        if self._stance is None and "torch._dynamo" in sys.modules:  # else nothing is compiled
            before = _setting_now()
            try:
                self._stance = torch.compiler.set_stance("force_eager")
            except (AttributeError, RuntimeError):  # torch before 2.6; in a compiled function
                return False
            if before is not None:
                module = sys.modules["torch._dynamo.eval_frame"]
                setting = _SettingByThread(_setting_now(), before, self)
                module._stance = setting  # type: ignore[attr-defined]
        return True

    def _restore(self) -> None:
        if self._stance is not None:
            with suppress(RuntimeError):  # in a compiled function: the next time, then
                self._stance.__exit__(None, None, None)
                self._stance = None


def _setting_now() -> object:
    """Return PyTorch's setting, or None if it is not where it was in 2.13."""
    return getattr(sys.modules.get("torch._dynamo.eval_frame"), "_stance", None)


class _SettingByThread:
    """One setting of PyTorch in threads that follow a pass, and another in all others."""

    def __init__(self, here: object, elsewhere: object, passes: EagerPasses) -> None:
        self._here, self._elsewhere, self._passes = here, elsewhere, passes

    def __getattr__(self, name: str) -> object:
        return getattr(self._here if self._passes.is_used_here else self._elsewhere, name)


EAGER = EagerPasses()
