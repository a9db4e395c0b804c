"""PyTorch: layers in branches of compiled graphs, by ``torch.cond`` and the like: not captured."""

from tensorstate_gpu._warnings import warn_user
from tensorstate_gpu.errors import SkippedLayersWarning


def warn_in_branch(name: str) -> None:
    """Warn of a layer that is not captured where the control flow of a graph runs it.

    Nothing may be written there. An operator that returns a copy, which the layer then passes on,
    would capture it, but a model that writes to the tensor in place would compute other numbers.

    Called by code that is compiled, when the graph is made.
    """
    warn_user(
        f"{name}: its calls in torch.cond, while_loop, scan, map and the like are not captured in "
        "compiled graphs: nothing may be written there",
        SkippedLayersWarning,
    )


warn_in_branch._dynamo_marked_constant = True  # type: ignore[attr-defined]
