"""PyTorch: the operator that carries a capture through torch.compile."""

import itertools
import weakref
from typing import Any, Protocol

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install 'tensorstate_gpu[torch]'") from error

from .tensors import is_real_forward


class Captures(Protocol):
    """Whoever takes the tensors that compiled graphs pass: a StateCaptureHook."""

    def capture(self, tensor: torch.Tensor) -> None: ...


# A graph holds plain numbers: it names a hook by a key.
new_keys = itertools.count()
hooks_by_key: "weakref.WeakValueDictionary[int, Captures]" = weakref.WeakValueDictionary()

_library: Any = torch.library.Library("tensorstate_gpu", "DEF")  # type: ignore[no-untyped-call]
_library.define("capture(Tensor x, Tensor(a!) anchor, int key) -> ()")


def _capture(x: torch.Tensor, anchor: torch.Tensor, key: int) -> None:
    """What a compiled graph calls; a hook that is gone by then has nobody to read it."""
    hook = hooks_by_key.get(key)
    if hook is not None and is_real_forward(x):
        hook.capture(x)


def _capture_fake(x: torch.Tensor, anchor: torch.Tensor, key: int) -> None:
    """Traced calls are not captured."""


_library.impl("capture", _capture, "CompositeExplicitAutograd")
torch.library.register_fake("tensorstate_gpu::capture", _capture_fake, lib=_library)
