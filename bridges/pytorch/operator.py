"""PyTorch: a custom operator that makes torch.compile keep the capture in its graph."""

import itertools
import weakref
from typing import Any, Protocol

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install 'tensorstate_gpu[torch]'") from error

from .tensors import is_real_forward


class TensorReceiver(Protocol):
    """Receives the tensors of compiled graphs: a StateCaptureHook."""

    def capture(self, tensor: torch.Tensor) -> None: ...


# A graph can contain integers but no hooks, so it refers to a hook by its key.
new_keys = itertools.count()
hooks_by_key: "weakref.WeakValueDictionary[int, TensorReceiver]" = weakref.WeakValueDictionary()

_library: Any = torch.library.Library("tensorstate_gpu", "DEF")  # type: ignore[no-untyped-call]
_library.define("capture(Tensor x, Tensor(a!) anchor, int key) -> ()")


def _capture(x: torch.Tensor, anchor: torch.Tensor, key: int) -> None:
    """Called by compiled graphs. Does nothing if the hook no longer exists."""
    hook = hooks_by_key.get(key)
    if hook is not None and is_real_forward(x):
        hook.capture(x)


def _capture_fake(x: torch.Tensor, anchor: torch.Tensor, key: int) -> None:
    """Do nothing: traced calls are not captured."""


_library.impl("capture", _capture, "CompositeExplicitAutograd")
torch.library.register_fake("tensorstate_gpu::capture", _capture_fake, lib=_library)
