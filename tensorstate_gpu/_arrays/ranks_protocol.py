"""Ranks: the processes of a job as they exchange histograms; the bridge of a framework has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol, TypeVar

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

    @property
    def places(self) -> Sequence[int]:
        """The numbers that the ranks have in the whole job, in order."""

    def of_all(self, value: ValueT) -> list[ValueT]:
        """Return the values of all ranks, which may be any that can be pickled. Small ones."""

    def gathered(self, value: ValueT, dst: int) -> list[ValueT] | None:
        """Return the values of all ranks at rank ``dst``; None at the others."""

    def summed(self, array: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sum of the arrays of all ranks, which have one shape."""

    def exchanged(self, array: NDArray[ElementT], sizes: Sequence[int]) -> list[NDArray[ElementT]]:
        """Send each rank its part of an array, and return what each rank has sent to this one.

        ``sizes``: how many entries along axis 0 each rank gets, in the order of the ranks. Uint8 or
        int64. All ranks' arrays agree in their other axes. If a rank has no room for what comes,
        it raises its error, and the others RanksDisagree.
        """


@dataclass(frozen=True, slots=True)
class FormerRanks:
    """The ranks that a copy knows of: it belongs to no process group, and cannot communicate."""

    rank: int
    size: int
    places: Sequence[int]

    def of_all(self, value: object) -> NoReturn:
        raise RuntimeError("a copy cannot communicate: it belongs to no process group")

    def gathered(self, value: object, dst: int) -> NoReturn:
        self.of_all(value)

    def summed(self, array: object) -> NoReturn:
        self.of_all(array)

    def exchanged(self, array: object, sizes: Sequence[int]) -> NoReturn:
        self.of_all(array)
