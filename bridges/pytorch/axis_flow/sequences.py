"""Packed and nested sequences, and inputs that are sorted for them and put back in order."""

import itertools
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .across_graphs import version_of
from .calls import Call, Result, rule
from .factors import BATCH, SEQUENCES, SORTED, Axis, Factor, batch, other, reordered, resized

_new_keys = itertools.count(1)
# What is known of tensors, which models may keep between passes: with the version of each, since
# a program may write to them where nothing is followed.
_keys: Any = WeakTensorKeyDictionary()
_inverses: Any = WeakTensorKeyDictionary()  # the key of the permutation that a tensor inverts
_numbers: Any = WeakTensorKeyDictionary()  # tensors that are 0, 1, ...: the memory of each
_KEEPING_NUMBERS = {
    *("to", "type", "long", "int", "cuda", "cpu", "clone", "contiguous", "detach"),
    *("view", "reshape", "unsqueeze", "__getitem__"),
}


def key_of(order: Tensor | None) -> int:
    """Return the number of a tensor that sorts inputs; 0 where they are not sorted."""
    if order is None:
        return 0
    key: int | None = _noted(_keys, order)
    if key is None:
        key = next(_new_keys)
        _keys[order] = key, version_of(order)
    return key


def _noted(notes: Any, tensor: Tensor) -> Any:
    """Return what is noted of a tensor, unless it has been written to; None if nothing."""
    noted, version = notes.get(tensor, (None, None))
    return noted if version == version_of(tensor) else None


def note_inverse(call: Call) -> None:
    """Note that a call writes the inverse of a permutation, as torch.nn.utils.rnn does."""
    if call.name != "scatter_" or len(call.args) != 4 or call.out.is_meta:
        return
    target, dim, order, numbers = call.args
    if dim == 0 and isinstance(numbers, Tensor) and numbers.tolist() == list(range(len(order))):
        _inverses[target] = key_of(order), version_of(target)


def note_numbers(call: Call) -> None:
    """Note that a call makes the numbers 0, 1, ... along axis 0, or that what it returns has them.

    By how they are made, not by their values, which may be others in the next pass.
    """
    if call.name == "arange":
        start = call.args[0] if len(call.args) > 1 else call.kwargs.get("start", 0)
        step = call.args[2] if len(call.args) > 2 else call.kwargs.get("step", 1)
        has_numbers = (start, step) == (0, 1)
    else:
        has_numbers = call.name in _KEEPING_NUMBERS and numbers_inputs(call.input)
        has_numbers = has_numbers and call.out.numel() == len(call.out)
    if has_numbers and (call.name != "__getitem__" or _has_all(call.args[1])):
        _numbers[call.out] = _memory_of(call.out), version_of(call.out)
    elif call.out is call.input or numbers_inputs(call.out):  # it was written to
        forget_numbers(call.out)


def forget_numbers(tensor: Tensor) -> None:
    """Forget such numbers in the memory of a tensor, which is written to."""
    if len(_numbers):
        written = _memory_of(tensor)
        for numbers in [each for each, (memory, _) in _numbers.items() if memory == written]:
            _numbers.pop(numbers, None)


def _memory_of(tensor: Tensor) -> int:
    """Return what a tensor shares with its views; 0 if it has no memory of its own."""
    try:
        memory: int = tensor.untyped_storage()._cdata
        return memory
    except (NotImplementedError, RuntimeError):
        return 0


def numbers_inputs(tensor: Any) -> bool:
    """Return whether a tensor is known to be 0, 1, ... along axis 0, with one entry each."""
    return isinstance(tensor, Tensor) and _noted(_numbers, tensor) is not None


def _has_all(index: Any) -> bool:
    """Return whether an index leaves all entries where they are, and may add axes."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or part == slice(None) for part in parts)


def selected(call: Call, axis: Axis, size: int) -> Axis:
    """Return an axis after index_select: its inputs may be sorted now, or in order again."""
    order = call.argument(2, "index")
    if call.name == "index_select" and len(axis) == 1 and axis[0].size == size:
        if axis[0].kind == BATCH and axis[0].stride == 1:
            return (Factor(SORTED, size, key_of(order)),)
        if axis[0].kind == SORTED and _noted(_inverses, order) == axis[0].stride:
            return batch(size)
    return reordered(resized(axis, size))


def inputs_of_sequences(axis: Axis, size: int) -> Axis | None:
    """Return an axis of as many inputs as packed sequences have; None if they are unknown."""
    if [factor.kind for factor in axis] != [SEQUENCES]:
        return None
    return (Factor(SORTED, size, axis[0].stride),) if axis[0].stride else batch(size)


@rule("_pack_padded_sequence")
def _packed(call: Call) -> Result:
    axes = call.input_axes
    if axes is None or len(axes) != call.out.ndim + 1:
        return None
    inputs = axes[0 if call.argument(2, "batch_first") else 1]
    key = {BATCH: 0, SORTED: inputs[0].stride}.get(inputs[0].kind) if len(inputs) == 1 else None
    rows = call.out.shape[0]
    first = other(rows) if key is None else (Factor(SEQUENCES, rows, key),)
    return [(first, *axes[2:])]


@rule("_pad_packed_sequence")
def _padded(call: Call) -> Result:
    axes = call.input_axes
    if axes is None or len(axes) + 1 != call.out.ndim:
        return None
    place = 0 if call.argument(2, "batch_first") else 1
    inputs = inputs_of_sequences(axes[0], call.shape[place])
    leading = [other(size) for size in call.shape[:2]]
    if inputs is not None:
        leading[place] = inputs
    return [(*leading, *axes[1:])]


@rule("_nested_tensor_from_mask to_padded_tensor")
def _without_padding(call: Call) -> Result:
    """What nn.TransformerEncoder makes of a padded batch and its mask, and the way back."""
    return call.input_axes
