"""Replicates: what becomes of a measure without each group, and the standard error from that."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Numbers = Ints | Floats
Measure = Callable[[Sequence[float]], float]
Changes = Callable[[Sequence[float], Sequence[float]], list[float]]
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
        shares = rows_by_group / rows_by_group.sum()
        is_part = ((shares > 0) & (shares < 1)).tolist()
        each = [without(group) if is_part[group] else value for group in range(len(shares))]
        deviations, bias = deviations_of(shares, np.array(value), np.array(each))
        return cls(tuple(deviations.tolist()), equal_groups(rows_by_group), float(bias), noise)

    @property
    def standard_error(self) -> float | None:
        """None if there are too few groups."""
        error = float(error_of(np.array(self.deviations), np.array(self.groups), self.noise))
        return None if math.isnan(error) else error

    @property
    def margin(self) -> float | None:
        """Half the width of a 95 % interval; None if there are too few groups."""
        error = self.standard_error
        if error is None:
            return None
        return float(margin_of(np.array(error), np.array(self.groups)))


def deviations_of(shares: Floats, value: Floats, without: Floats) -> tuple[Floats, Floats]:
    """Return how a measure deviates without each group, (..., groups), and its bias, (...).

    ``shares`` of the rows, and the measure ``without`` each group: (..., groups). A group of no
    rows, or of all, says nothing.
    """
    is_part = (shares > 0) & (shares < 1)
    deviations = np.where(is_part, (1 - shares) * (without - value[..., None]), 0.0)
    bias: Floats = deviations.sum(axis=-1)
    return deviations - shares * bias[..., None], bias


def error_of(deviations: Floats, groups: Floats, noise: Floats | float = 0.0) -> Floats:
    """Return the standard errors of measures, (...); NaN where there are too few groups."""
    squares = (deviations**2).sum(axis=-1) * groups / _degrees(groups)
    found: Floats = np.hypot(np.sqrt(squares), noise)
    return found


def margin_of(error: Floats, groups: Floats) -> Floats:
    """Return half the widths of 95 % intervals, (...); NaN where there is no error."""
    return error * student_quantile(_degrees(groups))


def _degrees(groups: Floats) -> Floats:
    return np.where(groups >= LEAST_GROUPS, groups - 1, np.nan)


def equal_groups(rows_by_group: NDArray[np.int64]) -> float:
    """Return how many groups of equal size would say as much of an error. There are rows."""
    return float(as_equal_groups(rows_by_group / rows_by_group.sum()))


def as_equal_groups(shares: Floats) -> Floats:
    """Return the same of the groups' shares of the rows, (..., groups)."""
    number: Floats = 1 / (shares**2).sum(axis=-1)
    return number


def bias_of(value: Floats, plugin: Floats, bias: Floats) -> tuple[Floats, Floats]:
    """Return how far the source may be below and above a value because of the value's bias.

    As far as the value is from the plug-in, on the other side; or BIASES times what the jackknife
    says of the ``bias``, if that is more: where rows of an instance are alike, the first is too
    little.
    """
    too_high = np.maximum(0.0, np.maximum(plugin - value, BIASES * bias))
    too_low = np.maximum(0.0, np.maximum(value - plugin, -BIASES * bias))
    return too_high, too_low


def limits_of_bias(value: float, plugin: float, replicates: Replicates) -> tuple[float, float]:
    """Return the same of one measure."""
    found = bias_of(np.array(value), np.array(plugin), np.array(replicates.bias))
    return float(found[0]), float(found[1])


def second_order_error(rows: Numbers, squares: Floats, distinct: Ints) -> Floats:
    """Return the standard deviation, in bits, of the entropy of equally likely states: (...).

    It is that of chi squared / (2 N), times the mean design effect: how much more often rows of a
    group have the same state than if rows were independent. That is Pearson's statistic of states
    and groups by its degrees of freedom (Rao and Scott, "The analysis of categorical data from
    complex sample surveys", 1981): 1 if rows are independent, 0 for a single state.

    ``rows`` and ``squares``, (..., groups), ``distinct``, (...): as in GroupSums.
    """
    whole, degrees = rows.sum(axis=-1), distinct - 1
    freedom = ((rows > 0).sum(axis=-1) - 1) * degrees
    pearson = (squares / np.maximum(rows, 1)).sum(axis=-1)
    effect = np.maximum(0.0, whole * (pearson - 1) / np.maximum(freedom, 1))
    error = effect * np.sqrt(2.0 * degrees) / (2.0 * whole * math.log(2))
    return np.where(freedom > 0, error, 0.0)


def student_quantile(degrees: Floats | float) -> Floats:
    """Return the 97.5 % quantile of Student's t distribution, for 5 degrees of freedom or more.

    Abramowitz and Stegun, "Handbook of mathematical functions" (1964), 26.7.5; exact to 0.001.

    >>> round(float(student_quantile(31)), 3)
    2.04
    """
    z = _NORMAL
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    quantile: Floats = np.polyval(terms[::-1], 1 / np.asarray(degrees))
    return quantile


def one_by_one(measure: Measure) -> Changes:
    """Return a function that has a measure of values of which one each is changed to another."""

    def changes(values: Sequence[float], others: Sequence[float]) -> list[float]:
        return [
            measure([*values[:place], other, *values[place + 1 :]])
            for place, other in enumerate(others)
        ]

    return changes


def combined(
    parts: Sequence[Replicates],
    values: Sequence[float],
    measure: Measure,
    changes: Changes | None = None,
) -> Replicates:
    """Return the replicates of a measure of several values, from those of the values.

    All parts have the same groups of the same instances. ``changes``: returns the measures of the
    values of which one each is changed to another, where that takes less than one_by_one().
    """
    whole = measure(values)
    deviations = tuple(
        measure([value + own for value, own in zip(values, each, strict=True)]) - whole
        for each in zip(*(part.deviations for part in parts), strict=True)
    )
    biased = [value + part.bias for value, part in zip(values, parts, strict=True)]
    noisy = [value + part.noise for value, part in zip(values, parts, strict=True)]
    noise = (changed - whole for changed in (changes or one_by_one(measure))(values, noisy))
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
