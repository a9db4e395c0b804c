"""What compiled graphs know of tensors that leave them, for the graph that comes after a break.

Graphs exchange real tensors, and know their own by name. But a captured tensor is seen as it is
when its graph runs. The next graph, which is made then, finds it among its inputs by its memory.
"""

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from .factors import Axes

_MOST = 256  # tensors, of which most have gone

_known: dict[int, tuple[StorageWeakRef, tuple[int, ...], Axes]] = {}


def note_captured(tensor: Tensor, axes: Axes | None) -> None:
    """Note what the graph that runs knows of a tensor that it has captured."""
    if axes is None or not tensor.numel():
        return
    if len(_known) >= _MOST:
        for address in [key for key, found in [*_known.items()] if _has_gone(found[0])]:
            _known.pop(address, None)
    storage = tensor.untyped_storage()
    reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
    _known[storage.data_ptr()] = reference, tuple(tensor.shape), axes


def axes_of_captured(tensor: Tensor) -> Axes | None:
    """Return what a graph before knows of a tensor that it has captured; None if nothing."""
    found = _known.get(tensor.untyped_storage().data_ptr())
    if found is None or _has_gone(found[0]) or found[1] != tuple(tensor.shape):
        return None
    return found[2]


def _has_gone(storage: StorageWeakRef) -> bool:
    return bool(storage.expired())  # type: ignore[no-untyped-call]
