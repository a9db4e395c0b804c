"""What compiled graphs know of tensors that leave them, for the graph that comes after a break.

Graphs exchange real tensors, and know their own by name. But a captured tensor is seen as it is
when its graph runs. The next graph, which is made then, finds it among its inputs by its memory.
"""

import weakref
from collections.abc import Sequence

from torch import Tensor, UntypedStorage

from .factors import Axes

_MOST = 256  # tensors, of which most have gone

# By address. Torch keeps the Python object of a storage as long as the storage exists.
_known: dict[int, tuple[weakref.ref[UntypedStorage], Sequence[int], Axes]] = {}


def note_captured(tensor: Tensor, axes: Axes | None) -> None:
    """Note what the graph that runs knows of a tensor that it has captured."""
    if axes is None or not tensor.numel():
        return
    if len(_known) >= _MOST:
        for address in [key for key, found in [*_known.items()] if found[0]() is None]:
            _known.pop(address, None)
    storage = tensor.untyped_storage()
    _known[storage.data_ptr()] = weakref.ref(storage), tensor.shape, axes


def axes_of_captured(tensor: Tensor) -> Axes | None:
    """Return what a graph before knows of a tensor that it has captured; None if nothing."""
    found = _known.get(tensor.untyped_storage().data_ptr())
    if found is None or found[0]() is None or found[1] != tensor.shape:
        return None
    return found[2]
