"""Incidences: in how many groups of instances states occur, where rows of an instance repeat them.

The formulas take arrays: (...) of one sample or of many, and (..., groups) of each without a group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tensorstate_gpu.information.estimators import unseen_terms_of
from tensorstate_gpu.information.group_coverage import Bools, Floats, GroupCoverage, Ints, Numbers
from tensorstate_gpu.information.many_samples import numbered
from tensorstate_gpu.information.replicates import (
    as_equal_groups,
    bias_of,
    deviations_of,
    error_of,
    margin_of,
)

_BLOCK = 1 << 8  # sums that are computed together: their terms fit the cache


@dataclass(frozen=True, slots=True, eq=False)
class Incidences:
    """The rare states of samples, by their rows and by the groups that they occur in.

    ``by_rows``, (3, ...), and ``by_rows_without`` each group, (3, ..., groups): rows of all states,
    and how many states occurred in one row, and in two. ``in_groups``, (3, ..., groups): how many
    states of each group occur in one group, in two, and in three. ``rows_alone``, (..., groups):
    rows of a group whose state no other group has; ``rows_left``: of the others, without it.
    """

    by_rows: Numbers
    by_rows_without: Numbers
    in_groups: Numbers
    rows_alone: Numbers
    rows_left: Numbers

    def upper_end(
        self, source: Floats, without: Floats, plugin: Floats, shares: Floats, noise: Floats | float
    ) -> Floats:
        """Return the upper end of an interval by incidences, (...), but for what a sample lacks.

        ``source``, (...), and ``without`` each group, (..., groups): entropies by Chao, Wang and
        Jost in bits. ``shares`` of the groups of the rows; ``noise``: as of Replicates.
        """
        by_groups, by_groups_without = self.by_groups()
        more = hidden_bits(*self.by_rows, *by_groups)
        more_without = hidden_bits(*self.by_rows_without, *by_groups_without)
        value = source + more
        deviations, bias = deviations_of(shares, value, without + more_without)
        groups = as_equal_groups(shares)
        margin = margin_of(error_of(deviations, groups, noise), groups)
        return value + margin + bias_of(value, plugin, bias)[1]

    def by_groups(self) -> tuple[tuple[Numbers, ...], tuple[Numbers, ...]]:
        """Return states of one group, and of two, and rows of the first; and without each group."""
        one, two, three = self.in_groups
        ones, twos, alone = (part.sum(axis=-1) for part in (one, two, self.rows_alone))
        twos = twos // 2  # which are of both groups
        return (ones, twos, alone), (
            ones[..., None] - one + two,
            twos[..., None] - two + three,
            alone[..., None] - self.rows_alone + self.rows_left,
        )


def hidden_bits(
    rows: Numbers,
    once: Numbers,
    twice: Numbers,
    in_one: Numbers,
    in_two: Numbers,
    rows_alone: Numbers,
) -> Floats:
    """Return what rare states add to an entropy by groups, less what they add by rows; (...).

    The estimator of Chao, Wang and Jost (2013) tells what a sample lacks by the states of one row.
    A state that one instance alone has, in all of its four rows, looks common to it. Counted by
    incidences (Chao and others 2014), it was drawn once. So here a state of one group is one draw,
    and the others have as many rows to a draw as these have on average.
    """
    each = np.maximum(1.0, rows_alone / np.maximum(in_one, 1))
    draws = np.maximum(1.0, np.rint(rows / each))
    by_groups = rows_alone * _of_one_draw(draws, in_one, in_two)
    bits: Floats = (by_groups - once * _of_one_draw(rows, once, twice)) / np.maximum(rows, 1)
    return bits / math.log(2)


def limitless_bits(
    cover: GroupCoverage, in_groups: Numbers, rows: Numbers, rows_alone: Numbers, neurons: int
) -> Floats:
    """Return what rare states may add if there are as many as the neurons can have, (...).

    How many states there are that only one group has is told by those that two groups have. If
    there are none of these, each input of some kind may have a state of its own, however many
    inputs there are: then nothing but the neurons limits their entropy. 0 if two groups share a
    state, or if no more than three instances have states of their own: a kind of so small a share
    might as well be missing.

    ``in_groups``, (3, ..., groups), ``rows`` and ``rows_alone``, (..., groups): as of Incidences.
    """
    ones, twos = (part.sum(axis=-1) for part in in_groups[:2])
    whole, alone = rows.sum(axis=-1), rows_alone.sum(axis=-1)
    draws = np.maximum(1.0, whole * np.minimum(1.0, ones / np.maximum(alone, 1)))
    unknown = (twos == 0) & ((1 - cover.share) * cover.effective > 3 + 1e-6)
    bits: Floats = (1 - cover.least) * np.maximum(0.0, neurons - np.log2(draws))
    return np.where(unknown, bits, 0.0)


def _of_one_draw(draws: Numbers, once: Numbers, twice: Numbers) -> Floats:
    """Return what states that were drawn once add to the plug-in, in nats, by their share.

    ln 1 - psi(1), and the sum for states that were not drawn.
    """
    numbers, first = numbered((draws, once, twice))
    total, ones, twos = (part.ravel()[first].astype(np.float64) for part in (draws, once, twice))
    total = np.maximum(1.0, total)
    odds = np.where(twos > 0, ones / np.maximum(2 * twos, 1), np.maximum(ones - 1, 0) / 2)
    blocks = np.array_split(np.arange(len(first)), 1 + len(first) // _BLOCK)
    sums = [unseen_terms_of(total[block], ((total - 1) * odds)[block]) for block in blocks]
    found: Floats = np.euler_gamma + np.concatenate(sums)[numbers].reshape(draws.shape)
    return found


def are_instances(rows: Numbers, instances: Ints, has_units: Bools) -> Bools:
    """Return whether each row is an instance that depends on no other, (...); (..., groups)."""
    found: Bools = ~has_units & (rows == instances).all(axis=-1)
    return found
