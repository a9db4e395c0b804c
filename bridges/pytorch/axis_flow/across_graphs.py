"""What compiled graphs know of tensors that leave them, for the graphs that come after a break.

Graphs exchange real tensors, and know their own by name. But an operator at the end of each graph
sees its results when it runs (see graph_borders.py). The next graph, which is made then, finds them
among its inputs, by their memory. It runs again for other passes, in which they may be others: an
operator at its begin compares them with what was known when it was made.
"""

import json
import sys
import threading
import weakref
from collections.abc import Iterable, Sequence
from functools import lru_cache
from types import FrameType
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, unquote

from torch import Tensor, UntypedStorage, nn

from .factors import BATCH, Axes, Axis, Factor, has, size_of

_MOST = 256  # tensors, of which most have gone


class TracedAxes(NamedTuple):
    """What a compiled graph knows of a tensor.

    ``axes``: None if nothing is known. ``cause``: why its neurons are not. ``inputs_lost``: why its
    inputs are not.
    """

    axes: Axes | None
    cause: str
    inputs_lost: str


UNKNOWN = TracedAxes(None, "lost at a graph break", "inputs lost at a graph break")


# Of what a graph within another one is given, such as that of what is checkpointed.
WITHIN = TracedAxes(
    None, "lost at a graph within another one", "inputs lost at a graph within another one"
)


class Counter(Protocol):
    """Counts the passes of a model."""

    def is_in_pass(self) -> bool:
        """Return whether this thread makes one."""

    def is_in_graphs(self) -> bool:
        """Return whether this thread makes one that has begun in a compiled graph."""


class _Here(threading.local):
    """What holds for this thread.

    ``fits``: whether the graph that runs was made for tensors like those that it is given.
    ``inputs``: of a part of a model that was called by itself, in the graph that runs.
    """

    fits = True
    inputs: int | None = None


HERE = _Here()
PASSES: "weakref.WeakSet[Counter]" = weakref.WeakSet()  # of models that have been called


def is_in_pass() -> bool:
    """Return whether this thread makes a pass of some model."""
    return any(counter.is_in_pass() for counter in [*PASSES])


def is_in_graphs() -> bool:
    """Return whether this thread makes a pass of some model that has begun in a compiled graph."""
    return any(counter.is_in_pass() and counter.is_in_graphs() for counter in [*PASSES])


def is_in_module() -> bool:
    """Return whether a module is called by another one now, not by the user."""
    called = set[int]()
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "_call_impl":  # torch.compile replaces the code itself
            module = frame.f_locals.get("self")
            if isinstance(module, nn.Module) and type(module).__name__ != "OptimizedModule":
                called.add(id(module))
        frame = frame.f_back
    return len(called) > 1


# ---- as constants of graphs --------------------------------------------------------------------


def inputs_in(tensor: Tensor, known: TracedAxes) -> int | None:
    """Return how many inputs a tensor has now of which it was known that they have an axis."""
    places = [i for i, axis in enumerate(known.axes or ()) if has(axis, BATCH)]
    return tensor.shape[places[0]] if places else None


def inputs_of_part(traced: str) -> int | None:
    """Return how many inputs a part of a model has that was called by itself; None if unknown.

    ``traced``: of a tensor that it captures. In a graph within another one, nothing has noted the
    begin of that other one, unless it captures a tensor itself.
    """
    return None if traced_axes(traced).inputs_lost == WITHIN.inputs_lost else HERE.inputs


def as_text(known: TracedAxes) -> str:
    """Without quotation marks, which inductor's cpp_wrapper does not escape."""
    return quote(json.dumps(known), safe="[], ")


@lru_cache(maxsize=1024)
def traced_axes(text: str) -> TracedAxes:
    """Return what as_text() has written."""
    axes, cause, inputs_lost = json.loads(unquote(text))
    if axes is not None:
        axes = tuple(tuple(Factor(*factor) for factor in axis) for axis in axes)
    return TracedAxes(axes, cause, inputs_lost)


# ---- tensors between graphs --------------------------------------------------------------------


class _Left(NamedTuple):
    """A tensor that has left a graph: by its memory, the view of it, and what was known."""

    memory: weakref.ref[UntypedStorage]
    version: int | None  # which each write increments
    known: TracedAxes
    inputs: int | None


# By address. Torch keeps the Python object of a storage as long as the storage exists.
_left: dict[int, dict[object, _Left]] = {}


def note_left(tensor: Tensor, known: TracedAxes, inputs: int | None = None) -> None:
    """Note what the graph that runs knows of a tensor that leaves it. ``inputs``: of the pass."""
    if not tensor.numel():
        return
    if len(_left) >= _MOST:
        for address, found in [*_left.items()]:
            if all(each.memory() is None for each in [*found.values()]):
                _left.pop(address, None)
    storage = tensor.untyped_storage()
    if known.axes is not None:
        known = known._replace(axes=axes_at(known.axes, tensor.shape, inputs))
    views = _left.setdefault(storage.data_ptr(), {})
    if any(each.memory() is not storage for each in [*views.values()]):
        views.clear()  # of memory that was here before
    views[_view_of(tensor)] = _Left(weakref.ref(storage), version_of(tensor), known, inputs)


def known_of_left(tensor: Tensor) -> TracedAxes | None:
    """Return what a graph before knows of a tensor that has left it; None if nothing."""
    found = _found_left(tensor)
    return None if found is None else found.known


def inputs_of_left(tensors: Iterable[Tensor]) -> int | None:
    """Return how many inputs the pass has in which tensors have left a graph; None if unknown."""
    numbers = {found.inputs for found in map(_found_left, tensors) if found is not None}
    return numbers.pop() if len(numbers) == 1 else None


def _found_left(tensor: Tensor) -> _Left | None:
    storage = tensor.untyped_storage()
    found = _left.get(storage.data_ptr(), {}).get(_view_of(tensor))
    if found is None or found.memory() is not storage or found.version != version_of(tensor):
        return None
    return found


def _view_of(tensor: Tensor) -> object:
    return tensor.shape, tensor.stride(), tensor.storage_offset()


def version_of(tensor: Tensor) -> int | None:
    """Return how often a tensor was written to; None in inference mode, which does not count."""
    return None if tensor.is_inference() else tensor._version


def axes_at(axes: Axes, shape: Sequence[int], inputs: int | None) -> Axes | None:
    """Return axes for a tensor of other sizes, of so many inputs; None if they do not fit."""
    if len(axes) != len(shape):
        return None
    found = [_axis_at(axis, size, inputs) for axis, size in zip(axes, shape, strict=True)]
    return None if None in found else tuple(axis for axis in found if axis is not None)


def _axis_at(axis: Axis, size: int, inputs: int | None) -> Axis | None:
    if size_of(axis) == size:
        return axis
    if len(axis) > 1 and inputs:
        axis = tuple(f._replace(size=inputs) if f.kind == BATCH else f for f in axis)
        return axis if size_of(axis) == size else None
    return (axis[0]._replace(size=size),) if len(axis) == 1 else None


def are_alike(known: Iterable[TracedAxes], others: Iterable[TracedAxes]) -> bool:
    """Return whether the same is known of tensors, whatever their sizes are."""
    pairs = zip(known, others, strict=True)
    return all(what_tells_apart(one.axes) == what_tells_apart(other.axes) for one, other in pairs)


def what_tells_apart(axes: Axes | None) -> list[Any] | None:
    """Return what tells axes apart: not the number of inputs, nor the size of a whole axis."""
    if axes is None:
        return None
    return [
        [(f.kind, f.stride, len(axis) > 1 and f.kind != BATCH and f.size) for f in axis]
        for axis in axes
    ]
