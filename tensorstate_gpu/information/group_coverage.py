"""GroupCoverage: what groups of instances say of the coverage, and as how many instances count.

Its formulas take arrays (..., groups): those of one sample, or of many.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Numbers = Ints | Floats
ONE_SIDED = 1.645  # the 95 % quantile of the normal distribution


@dataclass(frozen=True, slots=True, eq=False)
class GroupCoverage:
    """The coverage of a sample, or of many; as arrays (...).

    ``share``: of rows whose state also occurs in another group. Good's coverage for rows that
    depend on each other within instances: a state of one instance alone was, as it were, seen once.
    ``doubt``: how much less than it seems the coverage may be, with 95 % confidence.
    ``effective``: as how many independent instances with equally many rows the instances count.
    """

    share: Floats
    doubt: Floats
    effective: Floats

    @classmethod
    def of(
        cls, rows: Numbers, rows_alone: Numbers, instances: Ints, has_units: Bools
    ) -> GroupCoverage:
        """Return that of so many rows, rows whose state is in no other group, and instances.

        The doubt is at least 3 / M for M independent instances (the rule of three), and as Wilson's
        limit has it, as if all rows of an instance were alike, which is the most that its error can
        be ("Probable inference, the law of succession, and statistical inference", 1927). The limit
        of a normal distribution would be 0 if no state were alone, and samples that lack rare
        states by chance would look complete. Where instances belong together, so do not all count,
        it is at least what the coverages of the groups say. Groups also tell of unequal sizes;
        without units, unequal instances count as fewer.
        """
        number, of_sizes = instances.sum(axis=-1), _effect_of_sizes(rows, instances)
        effective = effective_instances(instances, has_units) / of_sizes
        counted = np.where(has_units, number, number / of_sizes)
        alone = rows_alone.sum(axis=-1) / rows.sum(axis=-1)
        doubt = np.maximum(
            _greatest_share(alone, np.maximum(1.0, counted)) - alone,
            3 / np.maximum(3.0, effective),
        )
        if has_units.any():
            by_groups = ONE_SIDED * _error_by_groups(rows, rows_alone)
            doubt = np.where(has_units, np.maximum(doubt, by_groups), doubt)
        return cls(1 - alone, doubt, effective)

    @property
    def least(self) -> Floats:
        """The least coverage that the source may have, with 95 % confidence."""
        return np.maximum(0.0, self.share - self.doubt)


def independent_instances(instances: Ints, has_units: Bools) -> Ints:
    """Return how many instances are known not to depend on each other."""
    found: Ints = np.where(has_units, (instances > 0).sum(axis=-1), instances.sum(axis=-1))
    return found


def effective_instances(instances: Ints, has_units: Bools) -> Floats:
    """Return as how many independent instances these count: all, or about as many as their units.

    A unit is in one of G groups, by a hash. So the squared deviations of the groups' instances
    from their mean add up, on average, to (1 - 1 / G) times the sum of the squared sizes of units.
    From that sum, Kish, "Survey sampling" (1965), has the effective number.
    """
    groups, number = instances.shape[-1], instances.sum(axis=-1)
    squares = ((instances - number[..., None] / groups) ** 2).sum(axis=-1)
    belong = has_units & (squares > 0)
    share = number * (1 - 1 / groups) / np.where(belong, squares, 1.0)
    of_units = number * np.minimum(1.0, share)
    least = independent_instances(instances, has_units)
    found: Floats = np.where(belong, np.maximum(least, of_units), number)
    return found


def _effect_of_sizes(rows: Numbers, instances: Ints) -> Floats:
    """Return how many times fewer instances would do, if all had equally many rows.

    Kish, "Survey sampling" (1965): 1 + the variance of their numbers of rows by the squared mean.
    From the groups, in which these numbers add up; exactly 1 if all are equal.
    """
    each = instances.astype(np.float64)  # whose products are large
    number, whole = each.sum(axis=-1), rows.sum(axis=-1)
    differences = rows * number[..., None] - each * whole[..., None]
    # What the groups' own mean takes of the variance.
    rest = number**2 - (each**2).sum(axis=-1)
    squares = np.where(rest > 0, (differences**2).sum(axis=-1), 0.0)
    effect: Floats = 1 + number * squares / (
        np.square(whole, dtype=np.float64) * np.maximum(rest, 1.0)
    )
    return effect


def _greatest_share(share: Floats, number: Floats) -> Floats:
    """Return Wilson's upper limit of the shares that these of so many instances are samples of.

    With 95 % confidence.
    """
    z = ONE_SIDED / number
    spread = np.sqrt(share * (1 - share) / number + z**2 / 4)
    limit: Floats = (share + ONE_SIDED * (z / 2 + spread)) / (1 + ONE_SIDED * z)
    return limit


def _error_by_groups(rows: Numbers, rows_alone: Numbers) -> Floats:
    """Return the error of the coverage; infinite of one group.

    That of a ratio of sums over clusters (Cochran, "Sampling techniques", 1977, 9A.1).
    """
    whole = rows.sum(axis=-1, keepdims=True)
    shares = rows / whole
    differences = rows_alone.sum(axis=-1, keepdims=True) / whole * shares - rows_alone / whole
    number = 1 / (shares**2).sum(axis=-1)  # of groups of equal size, that would say as much
    several = number > 1
    factor = np.where(several, number, 1.0) / np.where(several, number - 1, 1.0)
    return np.where(several, np.sqrt(factor * (differences**2).sum(axis=-1)), np.inf)
