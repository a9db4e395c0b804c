"""PyTorch: Bypasses tells what is known to have run layers of a model without their hooks."""

import sys
import weakref
from collections.abc import Iterable

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install torch") from error
from torch import nn


class Bypasses:
    """What runs layers of a model without their hooks, since these were attached."""

    def __init__(self, model: nn.Module) -> None:
        self._model = weakref.ref(model)
        self._guards_were_skipped = False

    def note_pass(self) -> None:
        """Note how compiled graphs are chosen in a pass that begins."""
        dynamo = sys.modules.get("torch._dynamo.eval_frame")
        stance: object = getattr(dynamo, "_stance", None)
        if getattr(stance, "skip_guard_eval_unsafe", False):
            self._guards_were_skipped = True

    def cause(self, module: nn.Module) -> str | None:
        """Return what has run a module without its hooks, and what to do; None if nothing has."""
        model = self._model()
        if model is not None and module in inside_replaced(model.modules()):
            return (
                "TorchScript or a CUDA graph has replaced the forward of a module around it; "
                "capture the model as it was before"
            )
        if self._guards_were_skipped:
            return (
                "under torch.compiler.set_stance(skip_guard_eval_unsafe=True), graphs from before "
                "the capture run in it; capture without that"
            )
        return None


def inside_replaced(modules: Iterable[nn.Module]) -> set[nn.Module]:
    """Return the modules inside those whose ``forward`` was replaced by one without hooks."""
    found: set[nn.Module] = set()
    for module in modules:
        forward: object = module.__dict__.get("forward")
        is_script = isinstance(forward, (torch.jit.ScriptFunction, torch._C.ScriptMethod))
        if is_script or getattr(forward, "__module__", None) == "torch.cuda.graphs":
            found.update(part for part in module.modules() if part is not module)
    return found
