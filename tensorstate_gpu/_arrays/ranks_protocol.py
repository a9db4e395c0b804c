"""Ranks: the processes of a job as they exchange histograms; the bridge of a framework has them."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

ValueT = TypeVar("ValueT")
ElementT = TypeVar("ElementT", bound=np.generic)


class Ranks(Protocol):
    """The processes of a group. All its functions are collective: every rank calls them, in order.

    ``rank``: the number of this process in the group, from 0 to ``size`` - 1.
    """

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def of_all(self, value: ValueT) -> list[ValueT]:
        """Return the values of all ranks, which may be any that can be pickled. Small ones."""

    def gathered(self, value: ValueT, dst: int) -> list[ValueT] | None:
        """Return the values of all ranks at rank ``dst``; None at the others."""

    def exchanged(self, array: NDArray[ElementT], sizes: Sequence[int]) -> list[NDArray[ElementT]]:
        """Send each rank its part of an array, and return what each rank has sent to this one.

        ``sizes``: how many entries along axis 0 each rank gets, in the order of the ranks. Uint8 or
        int64. All ranks' arrays agree in their other axes.
        """
