"""Labels of instances as an array of a store: all integers, or all strings."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray


def empty_labels(kind: str) -> NDArray[Any]:
    """An array that labels of a kind can be appended to."""
    return np.empty(0, np.int64 if kind == "integers" else np.dtypes.StringDType())


def kind_of(labels: NDArray[Any]) -> str:
    """ "integers" or "strings"; ValueError for integers that int64 does not hold."""
    if labels.dtype.kind in "TU":
        return "strings"
    if labels.dtype.kind == "u" and labels.size and labels.max() >= 2**63:
        raise ValueError(f"labels in a store must be below 2**63, got {labels.max()}")
    return "integers"


def typed(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels of the type in which their column keeps them; ValueError where that has no room."""
    try:
        return labels.astype(empty_labels(kind_of(labels)).dtype, copy=False)
    except (TypeError, UnicodeError) as error:
        raise ValueError(f"labels in a store must be valid Unicode: {error}") from error


def plain(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels as they are given back: int64, or strings of NumPy's fixed width."""
    return np.array(labels.tolist(), str) if labels.dtype.kind == "T" else labels


class LabelsOfRows:
    """Labels that a store keeps together with the rows; a ledger only reads them.

    ``read``: gives all of them, in pieces.
    """

    def __init__(self, read: Callable[[], Iterator[NDArray[Any]]]) -> None:
        self._read = read

    def add(self, labels: NDArray[Any]) -> None:
        """Nothing to do: the store took them with their rows."""

    def pieces(self) -> Iterator[NDArray[Any]]:
        return self._read()
