"""What states tell about labels: their mutual information, from a histogram for each label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorstate_gpu._arrays.array_types import Weights
from tensorstate_gpu.information.aligned_weights import Alignable
from tensorstate_gpu.information.counts_argument import count_table
from tensorstate_gpu.information.counts_of_counts import CountsOfCounts, Tallied
from tensorstate_gpu.information.entropies import entropy
from tensorstate_gpu.information.estimators import Estimator, check_estimator

Ints = NDArray[np.int64]


@runtime_checkable
class Mergeable(Tallied, Protocol):
    """A histogram that knows its states, such as StateCounts and StoredCounts."""

    @property
    def total(self) -> int: ...

    def merge(self, other: Any, /) -> Mergeable: ...


class Pairs:
    """The pairs of label and state, as a histogram. No two labels share a pair.

    ``by_label``: the states of each label.
    """

    def __init__(self, by_label: Iterable[Tallied]) -> None:
        self._by_label = tuple(by_label)

    def counts_of_counts(self) -> tuple[Ints, Ints]:
        parts = [CountsOfCounts(*counts.counts_of_counts()) for counts in self._by_label]
        whole = CountsOfCounts.together(parts)
        return whole.counts, whole.states


def mutual_information(
    by_label: Mapping[Any, Mergeable] | Mapping[Any, ArrayLike] | ArrayLike,
    estimator: Estimator = "chao-wang-jost",
) -> float:
    """Return how much the state of a row tells about its label, in bits.

    Parameters
    ----------
    by_label : mapping of label to StateCounts or StoredCounts, or array_like of integers
        What ``counts_by()`` or ``counted_by()`` of a capture point or stored layer returns; or
        the counts of each state, one row for each label: (labels, states).
    estimator : str
        As for `entropy`, of order 1, but not "nsb".

    Returns
    -------
    float
        Bits: the entropy of labels plus that of states minus that of both together, each by the
        estimator; from 0 to that of the labels. 0 for a single label.

    Raises
    ------
    TypeError, ValueError
        If there are no labels or no rows, if a label is NaN, if the numbers of neurons or states
        differ, or if the estimator is unknown, or not for order 1. As for `entropy` otherwise.

    Notes
    -----
    Shannon, "A mathematical theory of communication" (1948). The plug-in is too high, by several
    times where most states occurred once; the difference of corrected entropies less so. Compare
    with `permutation_test`.

    Examples
    --------
    >>> round(mutual_information([[4, 0], [0, 4]], estimator="plugin"), 6)
    1.0
    >>> mutual_information([[2, 2], [2, 2]])
    0.0
    """
    check_for_pairs(estimator)
    return information_of(*_histograms(by_label), estimator)


def information_of(labels: Ints, states: Weights, pairs: Weights, estimator: Estimator) -> float:
    """Return the mutual information, from the counts of labels, of states, and of their pairs."""
    if np.count_nonzero(labels) == 1:
        return 0.0
    of_labels, of_states, of_pairs = (
        entropy(counts, estimator=estimator) for counts in (labels, states, pairs)
    )
    return min(of_labels, max(0.0, of_labels + of_states - of_pairs))


def check_for_pairs(estimator: Estimator) -> None:
    """Raise ValueError for an estimator of other orders, or that needs the number of states."""
    check_estimator(estimator, 1)
    if estimator == "nsb":
        raise ValueError("the estimator 'nsb' has no number of possible pairs of state and label")


def check_labels(by_label: Mapping[Any, object]) -> None:
    """Raise TypeError for what is no dict by label, ValueError if a label is NaN."""
    if not isinstance(by_label, Mapping):
        kind = type(by_label).__name__
        raise TypeError(f"by_label must be a dict of counts by label, got {kind}")
    if any(label != label for label in by_label):
        raise ValueError("a label of by_label is NaN, which is no class")


def _histograms(by_label: object) -> tuple[Ints, Weights, Weights]:
    """Return the counts of the labels, of the states of all labels together, and of pairs."""
    values = by_label
    if isinstance(by_label, Mapping):
        check_labels(by_label)
        values = list(by_label.values())
        if not values:
            raise ValueError("by_label is empty; at least one label is needed")
    if isinstance(values, list) and values and all(isinstance(v, Mergeable) for v in values):
        return np.array([value.total for value in values]), _merged(values), Pairs(values)
    if isinstance(values, list) and any(isinstance(v, Mergeable) for v in values):
        kinds = " and ".join(sorted({type(value).__name__ for value in values}))
        raise TypeError(f"by_label must hold histograms, or arrays alone, got {kinds}")
    accepted = "hold StateCounts or StoredCounts, or integers of shape (labels, states)"
    counts = count_table(values, "by_label", accepted)
    return counts.sum(axis=1), counts.sum(axis=0), counts.ravel()


def _merged(parts: list[Mergeable]) -> Mergeable:
    """Merge in rounds of pairs, so that each state is copied in few merges.

    Those on disk, which are not aligned in memory, take any others; the others only their like.
    """
    parts = sorted(parts, key=lambda part: isinstance(part, Alignable))
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        parts = [one.merge(other) for one, other in pairs] + parts[len(parts) // 2 * 2 :]
    return parts[0]
