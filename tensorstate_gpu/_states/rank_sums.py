"""RankSums: what estimates need of counts by group, summed over ranks that own disjoint states."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.ranks_protocol import Ranks
from tensorstate_gpu._states.rank_exchange import Ints, agreed, in_step
from tensorstate_gpu.information import Estimate
from tensorstate_gpu.information.estimates import Measure, estimate_of_sums, needs_tree
from tensorstate_gpu.information.group_sums import GroupSums
from tensorstate_gpu.information.group_table import GroupTable


@dataclass(frozen=True, slots=True, eq=False)
class RankSums:
    """Sums over all states. ``tree``, (groups,): bits by a dependence tree, where one is needed."""

    sums: GroupSums
    tree: NDArray[np.float64] | None

    @classmethod
    def of(cls, ranks: Ranks, find_table: Callable[[], GroupTable]) -> "RankSums":
        """Add up the sums of all ranks. Collective.

        ``find_table``: returns the table of the states that this rank owns.
        """
        own = in_step(ranks, find_table)
        sums = GroupSums.together(agreed(ranks, lambda: GroupSums.of(own)))
        if not sums.rows or not needs_tree(sums):
            return cls(sums, None)

        def over_ranks(find: Callable[[], Ints]) -> Ints:
            return ranks.summed(in_step(ranks, find))

        return cls(sums, np.sum(agreed(ranks, lambda: own.code_lengths(over_ranks)), axis=0))

    @classmethod
    def of_each(cls, ranks: Ranks, owns: Iterable[GroupTable]) -> "list[RankSums]":
        """Like of(), of many tables in one exchange. Collective.

        Without trees and how often neurons fire: of a thousand labels and as many neurons in 32
        groups, these would be 256 MB from each rank.
        """
        of_ranks = agreed(ranks, lambda: [GroupSums.of(replace(own, firing=None)) for own in owns])
        return [cls(GroupSums.together(each), None) for each in zip(*of_ranks, strict=True)]

    def estimate(self, measure: Measure) -> Estimate:
        """Return a measure of the source, with its error. Raises ValueError if empty."""
        if not self.sums.rows:
            raise ValueError("groups holds no rows; at least one is needed")
        return estimate_of_sums(self.sums, self.tree, measure, self.sums.neurons)
