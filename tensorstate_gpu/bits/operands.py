"""Packed states as operands: where they are, and the functions that compute there."""

from collections.abc import Callable
from typing import Protocol, cast

from tensorstate_gpu._arrays.array_types import AnyArray, ArrayLibrary, NativeArray
from tensorstate_gpu._arrays.dlpack import export_like
from tensorstate_gpu._arrays.frameworks import jax_in_place
from tensorstate_gpu._states.packed_arguments import borrow_packed, check_packed


class Functions(Protocol):
    """What a backend, or the bridge of JAX, computes of arrays that are there."""

    def namespace(self) -> ArrayLibrary: ...
    def distances(self, one: AnyArray, other: AnyArray, /) -> AnyArray: ...
    def isin(self, states: AnyArray, reference: AnyArray, /) -> AnyArray: ...


class Sorting(Functions, Protocol):
    """What only a backend computes."""

    def unique(self, states: AnyArray, /) -> tuple[AnyArray, AnyArray, AnyArray]: ...


Results = AnyArray | tuple[AnyArray, ...]


def apply(operation: Callable[..., Results], **operands: object) -> object:
    """Return ``operation(functions, *operands)``, in the array type of the first operand.

    It is called with native arrays, and with the functions of their backend; for arrays of JAX that
    are traced or on several devices, with these and the functions of the bridge. A result may be a
    tuple of arrays.

    Raises TypeError or ValueError if an operand is no array of packed states, or is on another
    device than the first.
    """
    for states in operands.values():
        if (jax := jax_in_place(states)) is not None:
            return operation(jax, *(_checked(name, each) for name, each in operands.items()))
    return apply_natively(operation, **operands)


def apply_natively(operation: Callable[..., Results], **operands: object) -> object:
    """Like apply(), but never inside a transformation of JAX: TypeError.

    For results whose shapes depend on the numbers.
    """
    first = next(iter(operands.values()))
    borrowed = {name: borrow_packed(states, name) for name, states in operands.items()}
    backend, tensor = next(iter(borrowed.values()))
    for name, (_, packed) in borrowed.items():
        if packed.device != tensor.device:
            raise TypeError(
                f"{name} is on {packed.device_name}, the others on {tensor.device_name}"
            )
    with backend.working_on(tensor):
        result = operation(backend, *(backend.view(packed) for _, packed in borrowed.values()))
        if isinstance(result, tuple):
            return tuple(_exported(each, first) for each in result)
        return _exported(result, first)


def _exported(array: AnyArray, like: object) -> object:
    exported: object = export_like(cast(NativeArray, array), like)
    return exported


def _checked(argument: str, states: object) -> object:
    """Return an array for JAX. Raises TypeError or ValueError unless it has packed states."""
    if not hasattr(states, "dtype"):
        raise TypeError(f"{argument} must be an array, got {type(states).__name__}")
    array = cast(AnyArray, states)
    check_packed(str(array.dtype), array.shape, argument)
    return array


def check_same_width(one: AnyArray, other: AnyArray) -> None:
    """Raise ValueError if the rows of two arrays have different numbers of bytes."""
    if one.shape[1] != other.shape[1]:
        raise ValueError(f"rows have {one.shape[1]} and {other.shape[1]} bytes")
