"""A permutation test of what states tell about the labels of instances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorstate_gpu._arguments import positive_integer
from tensorstate_gpu._process.progress import ProgressCallback, running_total, with_progress
from tensorstate_gpu.information.class_information import check_for_pairs, information_of
from tensorstate_gpu.information.estimators import Estimator
from tensorstate_gpu.information.labelled_rows import HasInstances, Instances, LabelledRows

Ints = NDArray[np.int64]
MOST_PERMUTATIONS = 1_000_000  # a p-value of a millionth; of 10**30, nobody sees the end


@dataclass(frozen=True, slots=True, eq=False)
class PermutationTest:
    """The mutual information of states and labels, and what it is if labels tell nothing.

    ``value``: in bits, as measured. ``null``, (permutations,): the same with permuted labels.
    ``p_value``: how probable at least this value is if labels tell nothing.
    """

    __module__ = "tensorstate_gpu.information"

    value: float
    null: NDArray[np.float64]
    p_value: float

    def __repr__(self) -> str:
        return (
            f"PermutationTest(value {self.value:.4g} bits, null {self.null.mean():.4g} +- "
            f"{self.null.std():.2g}, p-value {self.p_value:.4g})"
        )


def permutation_test(
    states: ArrayLike | HasInstances,
    labels: ArrayLike,
    rng: np.random.Generator | int,
    *,
    instances: Instances = None,
    permutations: int = 999,
    estimator: Estimator = "plugin",
    progress: ProgressCallback | None = None,
) -> PermutationTest:
    """Test whether states tell anything about labels, by permuting the labels of instances.

    All rows of an instance (a model input) keep one label, and so do all instances of a unit; see
    ``Run.labels()``. They depend on each other: if rows were permuted, almost everything would look
    significant. For two labels with equally many rows, the mutual information is the Jensen-Shannon
    divergence of their states.

    Parameters
    ----------
    states : capture point or layer of a Store; or uint8 (rows, bytes), or integers (rows,)
        What has captured rows also knows their instances, and units. Of arrays, packed states or a
        number for each. Arrays on a GPU are copied to the host.
    labels : array_like of integers or strings, (instances,)
    rng : numpy.random.Generator or int
        The source of permutations, or its seed.
    instances : array_like of integers, (rows,), or "equal", optional
        For arrays: the place in ``labels`` of the instance of each row, in any order; "equal" if
        the rows of an instance follow each other, and all have equally many. By default, each row
        is an instance. Instances without rows are left out.
    permutations : int
        The smallest possible p-value is 1 / (permutations + 1). Each permutation takes as long as
        sorting the distinct pairs of instance and state. At most 1,000,000.
    estimator : str
        As for `mutual_information`. The bias of "plugin" does not matter: the null has it too.
    progress : callable, optional
        Is called with the permutations done so far, and all.

    Returns
    -------
    PermutationTest

    Raises
    ------
    TypeError, ValueError
        For states or labels of other shapes or types; if it is not known which rows belong to which
        instance; if instances of a unit have different labels; if ``permutations`` is not an
        integer from 1 to 1,000,000, or ``rng`` neither a generator nor a seed; if the estimator is
        none for `mutual_information`. What a capture point raises if it keeps counts only, or if
        rows belong to no known instance.

    Notes
    -----
    Phipson and Smyth, "Permutation p-values should never be zero" (2010): the labels as they are
    count as one permutation.

    Examples
    --------
    >>> labels = np.arange(100) % 2
    >>> test = permutation_test(labels + 7, labels, rng=1, permutations=99)
    >>> test.value, test.p_value
    (1.0, 0.01)
    """
    check_for_pairs(estimator)
    generator, count = generator_of(rng), checked_permutations(permutations)
    on_done = running_total(progress, count)
    rows = LabelledRows.of(states, labels, instances)
    pairs, classes = _InstancesWithStates(rows), rows.classes
    value = pairs.information(classes, estimator)
    permuted = (generator.permutation(classes) for _ in range(count))
    each = (pairs.information(labels, estimator) for labels in permuted)
    null = np.array([*with_progress(each, lambda _: 1, on_done)])
    reached = int((null >= value - 1e-12).sum())  # a sum in another order has other last digits
    return PermutationTest(value, null, (1 + reached) / (1 + count))


class _InstancesWithStates:
    """The distinct pairs of instance and state, and how many rows have each."""

    def __init__(self, rows: LabelledRows) -> None:
        self._distinct = int(rows.states.max()) + 1
        pairs, self._rows = np.unique(
            rows.instances * self._distinct + rows.states, return_counts=True
        )
        self._instances, self._states = np.divmod(pairs, self._distinct)
        self._state_counts = np.bincount(rows.states)

    def information(self, classes: Ints, estimator: Estimator) -> float:
        """Return the mutual information if the instances have these classes."""
        labels = classes[self._instances]
        _, place = np.unique(labels * self._distinct + self._states, return_inverse=True)
        return information_of(
            self._sum_rows(labels), self._state_counts, self._sum_rows(place), estimator
        )

    def _sum_rows(self, groups: Ints) -> Ints:
        return np.bincount(groups, self._rows).astype(np.int64)  # exact: fewer than 2**53 rows


def checked_permutations(permutations: object) -> int:
    """Return a number of permutations of which the end can be waited for."""
    return positive_integer(permutations, "permutations", MOST_PERMUTATIONS)


def generator_of(rng: object) -> np.random.Generator:
    """Return a generator, or that of a seed. Raises TypeError for anything else."""
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool) and rng >= 0:
        return np.random.default_rng(int(rng))
    raise TypeError(f"rng must be a numpy.random.Generator or a seed >= 0, got {rng!r}")
