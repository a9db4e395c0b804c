"""JAX: which of the devices of a shard_map records what several of them have."""

from collections.abc import Callable, Collection
from typing import Any

import jax
from numpy.typing import NDArray

Record = Callable[..., None]  # of the sizes of batch axes, and arrays


def numbers_among_copies(x: Any) -> list[Any]:
    """Return the number of this device along each axis of a mesh along which all have the same.

    None outside of shard_map, nor where it does not check such values (check_vma=False): all axes
    look like that then.
    """
    mesh = getattr(jax.sharding, "get_abstract_mesh", lambda: None)()
    varying = _varying_axes(x)
    numbers = (
        jax.lax.axis_index(axis)
        for axis in getattr(mesh, "manual_axes", ())
        if varying is not None and axis not in varying
    )
    return [number for number in numbers if _varying_axes(number)]


def by_the_first(record: Record, axes: int) -> Record:
    """Return a function that records where the numbers of its device, its last arrays, are 0.

    ``axes``: how many numbers there are.
    """

    def record_once(batch: tuple[int, ...], *arrays: NDArray[Any]) -> None:
        if not any(number.any() for number in arrays[len(arrays) - axes :]):
            record(batch, *arrays[: len(arrays) - axes])

    return record_once if axes else record


def _varying_axes(x: Any) -> Collection[str] | None:
    """Return along which axes of a mesh a value is another one on each device, if JAX tells."""
    kind = jax.typeof(x) if hasattr(jax, "typeof") else None
    kind = getattr(kind, "mat", kind)  # since JAX 0.10
    found: Collection[str] | None = getattr(kind, "varying", getattr(kind, "vma", None))
    return found
