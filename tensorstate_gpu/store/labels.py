"""StoredLabels: labels that a store keeps; a ledger only reads them."""

from collections.abc import Callable, Iterator
from typing import Any

from numpy.typing import NDArray


class StoredLabels:
    """Labels that a store keeps together with the rows. A ledger only reads them.

    ``read``: returns an iterator over all labels, in chunks.
    """

    def __init__(self, read: Callable[[], Iterator[NDArray[Any]]]) -> None:
        self._read = read

    def add(self, labels: NDArray[Any]) -> None:
        """Nothing to do: the store has added the labels together with their rows."""

    def pieces(self) -> Iterator[NDArray[Any]]:
        return self._read()
