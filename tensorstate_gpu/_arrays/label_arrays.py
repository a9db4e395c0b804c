"""Labels of instances as an argument: integers or strings, of any library."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.host_arrays import host_array


def validated_labels(
    labels: Any, instances: int | None = None, what: str = "labels"
) -> NDArray[Any]:
    """Return labels as an array: one integer or string per instance.

    ``labels``: integers, bools or strings, of any library, on any device. ``instances``: how many
    there must be; None for any number. Raises TypeError or ValueError for anything else. ``what``
    begins the messages.
    """
    if isinstance(labels, (list, tuple)):
        array = _label_array(labels, what)
    else:
        array = host_array(labels, what).copy()
        if array.ndim == 1 and array.dtype.kind in ("O", "T"):
            array = _label_array(array, what)
    if array.size and array.dtype.kind not in "iuUb":
        raise TypeError(f"{what} must be integers or strings, got {_kind_of(array)}")
    if array.ndim != 1 or instances not in (None, len(array)):
        each = "instance" if instances is None else f"of the {instances} instances"
        came = f"shape {array.shape}" if array.ndim else "one value"
        raise ValueError(f"{what} must be 1-D, one for each {each}, got {came}")
    return array.astype(np.int64) if array.dtype.kind == "b" else array


def _kind_of(array: NDArray[Any]) -> str:
    """Return what values there are that are no labels."""
    if array.dtype.kind != "O":
        return "bytes" if array.dtype.kind == "S" else str(array.dtype)
    kinds = (type(value).__name__ for value in array.ravel() if not isinstance(value, int))
    return next(kinds, "an integer of more than 64 bits")


def _label_array(labels: Iterable[Any], what: str) -> NDArray[Any]:
    """Convert labels one by one: NumPy would turn ["1", 1] into twice "1", and "a\\0" into "a"."""
    if any(isinstance(label, str) for label in labels):
        for label in labels:
            if not isinstance(label, str):
                raise TypeError(
                    f"{what} must be all integers or all strings, got {type(label).__name__} too"
                )
            if label.endswith("\0"):
                raise ValueError(f"{what} must not end with a zero character, got {label!r}")
    try:
        return np.array([label.item() if hasattr(label, "item") else label for label in labels])
    except (RuntimeError, ValueError) as error:  # RuntimeError: a tensor without numbers
        raise ValueError(f"{what} must be integers or strings: {error}") from error
