"""The bits of a row beyond its neurons."""

from tensorstate_gpu._arrays.array_types import AnyArray, ArrayLibrary


def with_clear_tail(xp: ArrayLibrary, packed: AnyArray, neurons: int) -> AnyArray:
    """Return rows (states, ceil(neurons / 8)) whose bits beyond their neurons are 0.

    ``xp``: the library of the array.
    """
    if neurons % 8 == 0:
        return packed
    last = packed[:, -1:] & ((1 << neurons % 8) - 1)
    return xp.concatenate((packed[:, :-1], last), axis=1)
