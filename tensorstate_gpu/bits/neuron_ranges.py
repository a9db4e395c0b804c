"""Ranges of neurons, at any bit: taken out of packed states, and joined."""

from collections.abc import Iterable, Sequence
from typing import cast

from tensorstate_gpu._arguments import integer, listed
from tensorstate_gpu._arrays.array_types import AnyArray, ArrayLibrary, ArrayT
from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._states.packed_arguments import check_neurons
from tensorstate_gpu.bits.operands import Functions, apply
from tensorstate_gpu.bits.tails import with_clear_tail


def slice_neurons(states: ArrayT, start: int, stop: int) -> ArrayT:
    """Return the states of the neurons from ``start`` up to ``stop``.

    Parameters
    ----------
    states : uint8 array of shape (states, bytes)
    start, stop : int
        0 <= start < stop <= 8 * bytes.

    Returns
    -------
    uint8 array of shape (states, ceil((stop - start) / 8)), in the array type of ``states``
        Neuron ``start`` is bit 0. Unused bits are 0.

    Raises
    ------
    TypeError, ValueError
        If ``states`` is no array of packed states, or has no such neurons.

    Examples
    --------
    >>> import numpy as np
    >>> slice_neurons(np.array([[0b10000000, 0b11]], np.uint8), 7, 9)
    array([[3]], dtype=uint8)
    """

    def taken(functions: Functions, packed: AnyArray) -> AnyArray:
        bits = 8 * packed.shape[1]
        first, last = integer(start, "start"), integer(stop, "stop")
        if not 0 <= first < last <= bits:
            raise ValueError(f"start and stop must be within the {bits} bits, got {first}, {last}")
        xp = functions.namespace()
        byte, shift = divmod(first, 8)
        width = row_bytes(last - first)
        low = packed[:, byte : byte + width] >> shift
        if shift:
            high = packed[:, byte + 1 : byte + 1 + width] << (8 - shift)
            if high.shape[1] < width:
                nothing = xp.zeros((len(packed), 1), packed.dtype)
                high = xp.concatenate((high, nothing), axis=1)
            low = low | high
        return with_clear_tail(xp, low, last - first)

    result = apply(taken, states=states)
    return cast(ArrayT, result)


def concatenate_neurons(parts: Sequence[ArrayT], neurons: Sequence[int]) -> ArrayT:
    """Return states of more neurons: row by row, those of each part behind the previous ones.

    Parameters
    ----------
    parts : sequence of uint8 arrays, (states, bytes)
        Of equally many states, on one device. For example the rows of several layers.
    neurons : sequence of int
        How many neurons each part has. Other bits are left out.

    Returns
    -------
    uint8 array of shape (states, ceil(sum(neurons) / 8)), in the array type of the first part

    Raises
    ------
    TypeError, ValueError
        If a part is no array of packed states, or does not fit its neurons; if there are no parts,
        or not as many numbers; if the numbers of states or the devices differ.

    Examples
    --------
    >>> import numpy as np
    >>> one, other = np.array([[0b101]], np.uint8), np.array([[0b11]], np.uint8)
    >>> concatenate_neurons([one, other], [3, 2])
    array([[29]], dtype=uint8)
    """
    if not isinstance(neurons, Iterable):
        raise TypeError(f"neurons must be a number for each part, got {neurons!r}")
    parts, counts = listed(parts, "parts", "arrays"), listed(neurons, "neurons", "integers")
    if not parts or len(parts) != len(counts):
        raise ValueError(
            f"parts and neurons must be equally many, at least one, got {len(parts)} and "
            f"{len(counts)}"
        )

    def joined(functions: Functions, *arrays: AnyArray) -> AnyArray:
        if len({len(packed) for packed in arrays}) > 1:
            raise ValueError(
                f"parts have {', '.join(str(len(packed)) for packed in arrays)} states"
            )
        xp = functions.namespace()
        checked = [
            check_neurons(count, packed.shape[1], "neurons")
            for count, packed in zip(counts, arrays, strict=True)
        ]
        clear = [with_clear_tail(xp, *each) for each in zip(arrays, checked, strict=True)]
        return _joined(xp, clear, checked)

    result = apply(joined, **{f"parts[{i}]": part for i, part in enumerate(parts)})
    return cast(ArrayT, result)


def _joined(xp: ArrayLibrary, parts: list[AnyArray], neurons: list[int]) -> AnyArray:
    """Return the concatenation: whole bytes, and the bits of one that the next part continues."""
    nothing = xp.zeros((len(parts[0]), 1), parts[0].dtype)
    pieces: list[AnyArray] = []
    begun, filled = nothing, 0  # a column of bytes, of which so many bits are filled
    for packed, count in zip(parts, neurons, strict=True):
        if filled:
            low = xp.concatenate((packed << filled, nothing), axis=1)
            packed = low | xp.concatenate((begun, packed >> (8 - filled)), axis=1)
        whole, filled = divmod(filled + count, 8)
        pieces.append(packed[:, :whole])
        begun = packed[:, whole : whole + 1]
    if filled:
        pieces.append(begun)
    return xp.concatenate(pieces, axis=1)
