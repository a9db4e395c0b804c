"""Replicates: what becomes of a measure without each group, and the standard error from that."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_GROUPS = 16  # of equal size, or as unequal as so many: fewer say too little of an error
# The jackknife takes a bias for one that falls as 1 / N. Where the probabilities of states fall as
# rank**-a, it falls as N**-(1 - 1 / a), and is 1 / (1 - 1 / a) times as large: three for a = 1.5.
BIASES = 3
_NORMAL = 1.959963984540054  # the 97.5 % quantile of a normal distribution


@dataclass(frozen=True, slots=True)
class Replicates:
    """How a measure deviates without each group, each deviation times the share of all other rows.

    Groups of many rows thus count as much as their rows do. All deviations together are 0: that
    fewer rows have a greater bias is no error by chance. ``groups``: how many groups of equal size
    would say as much. ``bias``: what the common part of the deviations says of the bias.
    ``noise``: the part of the standard error that deviations do not show, because it is not linear:
    all there is where all states are equally likely.

    Source: Wolter, "Introduction to variance estimation" (2007), chapter 4, for the delete-a-group
    jackknife; Quenouille (1956) for its bias.
    """

    deviations: tuple[float, ...]
    groups: float
    bias: float
    noise: float

    @classmethod
    def of(
        cls,
        rows_by_group: NDArray[np.int64],
        value: float,
        without: Callable[[int], float],
        noise: float = 0.0,
    ) -> Replicates:
        """Measure without each group in turn. ``without`` returns the measure without one."""
        each: list[int] = rows_by_group.tolist()
        rows = sum(each)
        shares = [own / rows for own in each]
        deviations = [
            (1 - share) * (without(group) - value) if 0 < own < rows else 0.0
            for group, (own, share) in enumerate(zip(each, shares, strict=True))
        ]
        bias = math.fsum(deviations)
        centred = (own - share * bias for own, share in zip(deviations, shares, strict=True))
        return cls(tuple(centred), equal_groups(rows_by_group), bias, noise)

    @property
    def standard_error(self) -> float | None:
        """None if there are too few groups."""
        if self.groups < LEAST_GROUPS:
            return None
        squares = math.fsum(deviation**2 for deviation in self.deviations)
        return math.hypot(math.sqrt(squares * self.groups / (self.groups - 1)), self.noise)

    @property
    def margin(self) -> float | None:
        """Half the width of a 95 % interval; None if there are too few groups."""
        error = self.standard_error
        return None if error is None else error * student_quantile(self.groups - 1)


def equal_groups(rows_by_group: NDArray[np.int64]) -> float:
    """Return how many groups of equal size would say as much of an error. There are rows."""
    each: list[int] = rows_by_group.tolist()
    rows = sum(each)
    return 1 / math.fsum((own / rows) ** 2 for own in each)


def bias_of(value: float, plugin: float, replicates: Replicates) -> tuple[float, float]:
    """Return how far the source may be below and above a value because of the value's bias.

    As far as the value is from the plug-in, on the other side; or BIASES times what the jackknife
    says of the bias, if that is more: where rows of an instance are alike, the first is too little.
    """
    too_high = max(0.0, plugin - value, BIASES * replicates.bias)
    too_low = max(0.0, value - plugin, -BIASES * replicates.bias)
    return too_high, too_low


def student_quantile(degrees: float) -> float:
    """Return the 97.5 % quantile of Student's t distribution, for 5 degrees of freedom or more.

    Abramowitz and Stegun, "Handbook of mathematical functions" (1964), 26.7.5; exact to 0.001.

    >>> round(student_quantile(31), 3)
    2.04
    """
    z, v = _NORMAL, degrees
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / v**power for power, term in enumerate(terms))


def combined(
    parts: Sequence[Replicates],
    values: Sequence[float],
    measure: Callable[[Sequence[float]], float],
) -> Replicates:
    """Return the replicates of a measure of several values, from those of the values.

    All parts have the same groups of the same instances.
    """
    whole = measure(values)
    deviations = tuple(
        measure([value + own for value, own in zip(values, each, strict=True)]) - whole
        for each in zip(*(part.deviations for part in parts), strict=True)
    )
    biased = [value + part.bias for value, part in zip(values, parts, strict=True)]
    noise = (
        measure([*values[:place], values[place] + part.noise, *values[place + 1 :]]) - whole
        for place, part in enumerate(parts)
    )
    groups = min(part.groups for part in parts)
    return Replicates(deviations, groups, measure(biased) - whole, math.hypot(*noise))


def difference_of_independent(one: Replicates, other: Replicates) -> Replicates:
    """Return the replicates of a difference of two values whose samples have nothing in common.

    The squares of their errors add up. The deviations are those of both, each scaled so that
    ``standard_error`` adds them up with its own number of groups; and there are as many groups as
    Welch, Biometrika 34 (1947), has degrees of freedom, and one more.
    """
    errors = [part.standard_error for part in (one, other)]
    groups = _welch_groups((one.groups, other.groups), errors)
    own = (_corrected(part.groups) / _corrected(groups) for part in (one, other))
    first, second = map(math.sqrt, own)
    deviations = (
        *(first * deviation for deviation in one.deviations),
        *(-second * deviation for deviation in other.deviations),
    )
    noise = math.hypot(one.noise, other.noise)
    return Replicates(deviations, groups, one.bias - other.bias, noise)


def _welch_groups(groups: Sequence[float], errors: Sequence[float | None]) -> float:
    """Return of how many groups the error of a difference is; the fewer, if one has no error."""
    variances = [0.0 if error is None else error**2 for error in errors]
    if None in errors or not any(variances):
        return min(groups)
    each = zip(variances, groups, strict=True)
    return 1 + sum(variances) ** 2 / math.fsum(v**2 / (number - 1) for v, number in each)


def _corrected(groups: float) -> float:
    """Return by how much the squared deviations of so many groups are too small."""
    return groups / (groups - 1) if groups > 1 else 1.0
