"""Checks of packed states as arguments, and the backend of their device."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import positive_integer
from tensorstate_gpu._arrays.backend_protocol import Backend
from tensorstate_gpu._arrays.dlpack import Tensor, borrow
from tensorstate_gpu._arrays.frameworks import jax_tracing
from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._states.backends import backend_of
from tensorstate_gpu._warnings import warn_user

_LOOKED_AT = 64  # rows that mostly show that these are packed
_FEW_BYTES = 4  # of rows that may well have so few different values


def borrow_packed(
    states: object, argument: str = "states", *, or_bool: bool = False
) -> tuple[Backend, Tensor]:
    """Describe packed states (states, bytes), and find the backend of their device.

    With ``or_bool`` also unpacked ones (states, neurons), as rows of bytes that are 0 or 1.

    Raises TypeError or ValueError if the argument is not an array of packed states.
    """
    if jax_tracing(states) is not None:
        raise TypeError(
            "inside a JAX transformation the number of distinct states is not known: return the "
            "packed rows, and sort or count them outside, or give count_states a size="
        )
    packed = borrow(states, argument)
    is_bool = or_bool and packed.element.name == "bool"
    check_packed("uint8" if is_bool else packed.element.name, packed.shape, argument)
    return backend_of(packed), packed


def check_packed(dtype: str, shape: tuple[int, ...], argument: str = "states") -> None:
    """Raise TypeError or ValueError unless this is a uint8 array (states, bytes >= 1)."""
    if dtype != "uint8":
        raise TypeError(
            f"{argument} must be packed (uint8), got {dtype}: compress_states() packs activations "
            "and bools"
        )
    if len(shape) != 2 or shape[1] == 0:
        raise ValueError(f"{argument} must have shape (states, bytes >= 1), got {shape}")


def check_neurons(neurons: Any, width: int, argument: str) -> int:
    """Return a number of neurons that fits rows of ``width`` bytes; TypeError or ValueError."""
    number = positive_integer(neurons, argument)
    if row_bytes(number) != width:
        advice = ": compress_states() packs one number for each neuron" if number == width else ""
        raise ValueError(
            f"{argument}={number} needs rows of {row_bytes(number)} bytes, got rows of {width}"
            f"{advice}"
        )
    return number


def warn_if_unpacked(packed: NDArray[np.uint8]) -> None:
    """Warn if rows without a number of neurons look as if each byte were a neuron.

    Nothing tells for certain: packed rows of which only every eighth neuron fires look like that.
    """
    width = packed.shape[1]
    if width < _FEW_BYTES or packed[:_LOOKED_AT].max(initial=0) > 1 or packed.max(initial=0) != 1:
        return
    warn_user(
        f"states have bytes of 0 and 1 only, and are taken as packed: rows of {8 * width} neurons. "
        f"If they are {width} neurons, one in each byte, compress_states() packs them; else "
        "neurons= says how many there are"
    )


def check_unused_bits(packed: NDArray[np.uint8], neurons: int) -> None:
    """Raise ValueError if packed states (states, bytes) have bits set beyond their neurons."""
    if neurons % 8 and packed.size and (packed[:, -1] >> (neurons % 8)).any():
        raise ValueError(f"states have bits set beyond their {neurons} neurons")
