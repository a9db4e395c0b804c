"""TakenRows: which inputs the rows were taken from that a model writes by their numbers.

``y[3 - i] = h[i]`` puts a row where another input's was, and nothing in the shapes shows it.
"""

from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .calls import Call
from .factors import BATCH, Axes, counts_inputs, has, size_of
from .sequences import numbers_inputs
from .writes import indexed_axes


class Unread:
    """Rows that an index takes whose numbers cannot be read: inside a graph that is made, say."""

    def __init__(self, index: object) -> None:
        self._index = index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unread) and self._index is other._index

    def __hash__(self) -> int:
        return id(self._index)


Rows = tuple[int, ...] | Unread  # numbers along the axis of the inputs
_MOST = 1 << 16  # of them
_WRITING = {"index_copy", "index_put"}


class TakenRows:
    """Rows of tensors that count inputs, by the tensors that have been computed from them alone."""

    def __init__(self) -> None:
        self._rows: MutableMapping[Tensor, Rows] = WeakTensorKeyDictionary()

    def follow(self, call: Call) -> None:
        """Note which rows a call takes, or computes with."""
        each = _taken_by(call)
        if each is None:
            found = {self._rows[tensor] for tensor in call.tensors if tensor in self._rows}
            if len(found) != 1 or any(counts_inputs(call.known(t)) for t in call.tensors):
                return
            each = [*found] * len(call.outputs)
        for output, rows in zip(call.outputs, each, strict=False):
            if rows is not None and isinstance(output, Tensor):
                self._rows[output] = rows

    def note_unread(self, tensor: Tensor) -> None:
        """Note that a tensor may be rows of inputs that were taken before."""
        self._rows[tensor] = Unread(object())  # not the tensor: it would keep itself

    def are_moved(self, target: Tensor, axes: Axes | None, index: Any, value: Any) -> bool:
        """Return whether a write puts rows where other inputs' are. ``axes``: of the target."""
        rows = self._rows.get(value) if isinstance(value, Tensor) else None
        if rows is None:
            return False
        place = _place_of_inputs(axes)
        if place is None:  # it may be a row itself
            there = self._rows.get(target)
        else:
            index = indexed_axes(target.ndim, index).get(place)
            there = None if index is None else _numbers(index, target.shape[place])
        return there is not None and _differ(there, rows)

    def are_moved_by(self, call: Call) -> bool:
        """Return whether a function puts rows where other inputs' are."""
        if call.name == "where":
            values = [t for t in call.tensors if t is not call.input]
            return any(map(self._are_in_another_order, values)) and any(
                counts_inputs(call.known(tensor)) for tensor in values
            )
        if call.name.rstrip("_") == "masked_scatter":
            return _fills_other_inputs(call)
        if call.name.rstrip("_") not in _WRITING:
            return False
        dim, value = call.argument(1, "dim", "indices"), call.argument(2, "values")
        index: Any = dim
        if isinstance(dim, int):
            value = call.argument(3, "source")
            index = (*[slice(None)] * (dim % call.out.ndim), call.argument(2, "index"))
        return self.are_moved(call.input, call.input_axes, index, value)

    def _are_in_another_order(self, tensor: Tensor) -> bool:
        rows = self._rows.get(tensor, ())
        return isinstance(rows, Unread) or (len(rows) > 1 and rows != (*range(len(rows)),))


def _differ(there: Rows, rows: Rows) -> bool:
    if isinstance(there, Unread) or isinstance(rows, Unread):
        return there != rows
    return len(there) == len(rows) and there != rows


def _fills_other_inputs(call: Call) -> bool:
    """Return whether entries of some inputs fill the places that a mask leaves in others.

    They fill them one after the other: each input its own, if it has as many places as entries.
    """
    mask, source = call.argument(1, "mask"), call.argument(2, "source")
    axes, written = call.input_axes, call.known(source)
    if axes is None or written is None or not counts_inputs(written):
        return False
    inputs = axes[0][:1]
    if not has(inputs, BATCH) or written[0][:1] != inputs:
        return True
    size = inputs[0].size
    places = _values(mask.expand(call.shape).reshape(size, -1).sum(1))
    return places is None or any(each != source.numel() // size for each in places)


def _place_of_inputs(axes: Axes | None) -> int | None:
    places = [i for i, axis in enumerate(axes or ()) if has(axis, BATCH)]
    return places[0] if len(places) == 1 else None


def _taken_by(call: Call) -> Sequence[Rows | None] | None:
    """Return the rows that each output of a call has of its input; None if it takes no rows."""
    take, source = _TAKING.get(call.name), call.input
    place = _place_of_inputs(call.known(source)) if take is not None else None
    if take is None or place is None:
        return None
    axes = call.known(source)
    if axes is None or size_of(axes[place]) != source.shape[place]:
        return None
    return take(call, place, source.shape[place])


def _by_index(call: Call, place: int, size: int) -> Sequence[Rows | None] | None:
    index = indexed_axes(call.input.ndim, call.args[1]).get(place)
    return None if index is None else [_numbers(index, size)]


def _along(call: Call, place: int) -> bool:
    dim: int = call.argument(1 if call.name in _DIM_FIRST else 2, "dim") or 0
    ndim: int = call.input.ndim
    return dim % ndim == place


def _by_number(call: Call, place: int, size: int) -> Sequence[Rows | None] | None:
    if not _along(call, place):
        return None
    if call.name == "narrow":
        start, length = call.argument(2, "start"), call.argument(3, "length")
        return [_numbers(slice(int(start) % size, int(start) % size + length), size)]
    return [_numbers(call.argument(2, "index"), size)]


def _in_parts(call: Call, place: int, size: int) -> Sequence[Rows | None] | None:
    if not _along(call, place):
        return None
    each, begin = list[Rows | None](), 0
    for output in call.outputs:
        length = 1 if call.name == "unbind" else output.shape[place]
        each.append(_numbers(slice(begin, begin + length), size))
        begin += length
    return each


def _reordered(call: Call, place: int, size: int) -> Sequence[Rows | None] | None:
    dims = call.argument(2 if call.name == "roll" else 1, "dims")
    dims = (dims,) if isinstance(dims, int) else dims or ()
    if place not in {dim % call.input.ndim for dim in dims}:
        return None
    if call.name == "flip":
        return [(*reversed(range(size)),)]
    shifts = call.argument(1, "shifts")
    shifts = (shifts,) if isinstance(shifts, int) else shifts
    shift = sum(n for n, dim in zip(shifts, dims, strict=True) if dim % call.input.ndim == place)
    return [tuple((i - shift) % size for i in range(size))]


_DIM_FIRST = {"select", "narrow", "index_select", "unbind"}
_Taking = Callable[[Call, int, int], Sequence[Rows | None] | None]
_TAKING: dict[str, _Taking] = {
    "__getitem__": _by_index,
    **dict.fromkeys(("select", "narrow", "index_select"), _by_number),
    **dict.fromkeys(("flip", "roll"), _reordered),
    **dict.fromkeys(("unbind", "chunk", "split", "split_with_sizes", "tensor_split"), _in_parts),
}


def _numbers(index: Any, size: int) -> Rows | None:
    """Return the rows that an index takes; None if it does not tell."""
    if size > _MOST or numbers_inputs(index):
        return None
    if isinstance(index, Tensor):
        values = _values(index)
        if values is None:
            return Unread(index) if index.ndim <= 1 else None
        index = values
    if isinstance(index, slice):
        return tuple(range(size)[index])
    if isinstance(index, int) and not isinstance(index, bool):
        return (index % size,)
    return _listed(index, size) if isinstance(index, list) else None


def _values(index: Tensor) -> Any:
    """Return the numbers in a tensor; None where it has none, or must not be read now."""
    if index.is_meta or index.ndim > 1 or index.numel() > _MOST:
        return None
    if index.is_cuda and torch.cuda.is_current_stream_capturing():
        return None
    try:
        return index.tolist()
    except Exception:  # of fake tensors, and of those inside vmap
        return None


def _listed(index: Iterable[Any], size: int) -> Rows | None:
    numbers = [*index]
    if numbers and all(isinstance(each, bool) for each in numbers):
        return tuple(i for i, is_taken in enumerate(numbers) if is_taken)
    return tuple(each % size for each in numbers) if all(type(n) is int for n in numbers) else None
