"""What states tell about labels: their mutual information, from a histogram for each label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorstate_gpu._arrays.array_types import Weights
from tensorstate_gpu.information.counts_argument import count_table
from tensorstate_gpu.information.entropies import entropy
from tensorstate_gpu.information.estimators import Estimator, check_estimator

Ints = NDArray[np.int64]


@runtime_checkable
class Mergeable(Protocol):
    """A histogram that knows its states, such as StateCounts."""

    @property
    def counts(self) -> Ints: ...

    def merge(self, other: Any, /) -> Mergeable: ...


def mutual_information(
    by_label: Mapping[Any, Mergeable] | Mapping[Any, ArrayLike] | ArrayLike,
    estimator: Estimator = "chao-wang-jost",
) -> float:
    """Return how much the state of a row tells about its label, in bits.

    Parameters
    ----------
    by_label : mapping of label to StateCounts, or array_like of integers, (labels, states)
        What ``counts_by()`` of a capture point or stored layer returns; or the counts of each
        state, one row for each label.
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
    states, parts = _histograms(by_label)
    labels = np.array([part.sum() for part in parts])
    return information_of(labels, states, np.concatenate(parts), estimator)


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
    """Raise ValueError if a label is NaN."""
    if any(label != label for label in by_label):
        raise ValueError("a label of by_label is NaN, which is no class")


def _histograms(by_label: object) -> tuple[Ints, list[Ints]]:
    """Return the counts of the states of all labels together, and of those of each label."""
    values = by_label
    if isinstance(by_label, Mapping):
        check_labels(by_label)
        values = list(by_label.values())
        if not values:
            raise ValueError("by_label is empty; at least one label is needed")
    if isinstance(values, list) and values and all(isinstance(v, Mergeable) for v in values):
        return _merged(values).counts, [value.counts for value in values]
    accepted = "hold StateCounts, or integers of shape (labels, states)"
    counts = count_table(values, "by_label", accepted)
    return counts.sum(axis=0), list(counts)


def _merged(parts: list[Mergeable]) -> Mergeable:
    """Merge in rounds of pairs, so that each state is copied in few merges."""
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        parts = [one.merge(other) for one, other in pairs] + parts[len(parts) // 2 * 2 :]
    return parts[0]
