"""Dependence trees: codes of states that know which neurons fire together, as bounds of an entropy.

In a tree, each neuron's probability to fire depends on one other neuron, its parent. Of all trees,
the one whose neurons tell most of their parents has the shortest code (Chow and Liu, "Approximating
discrete probability distributions with dependence trees", 1968).
"""

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FOLDS = 4  # so that a tree is made of 3/4 of the groups


def code_lengths(
    groups: int,
    cofiring: Callable[[int], Ints],
    over_ranks: Callable[[Callable[[], Ints]], Ints] | None = None,
) -> Floats:
    """Return how many bits the rows of each group take, by the tree of other groups.

    No code of states is shorter on average than their entropy. That holds for rows that the tree
    was not made of: by a tree of the same rows, the bits may be fewer.

    ``cofiring``: returns (neurons + 1, neurons + 1) for a group: what with_constant() returns.
    It is called twice for each, so that no more than ``FOLDS`` such arrays are kept.
    ``over_ranks``: calls what computes an array, and returns its sum over the ranks that have parts
    of the rows, who then share the trees. The bits are those of this rank's part.
    """

    def of_fold(fold: int) -> Ints:
        return sum(
            (cofiring(group) for group in range(fold, groups, FOLDS)), np.zeros((), np.int64)
        )

    folds = [functools.partial(of_fold, fold) for fold in range(FOLDS)]
    of_folds = [fold() if over_ranks is None else over_ranks(fold) for fold in folds]
    total = sum(of_folds, np.zeros((), np.int64))
    codes = [_Code(total - own) for own in of_folds]
    return np.array([codes[group % FOLDS].bits(cofiring(group)) for group in range(groups)])


def with_constant(cofiring: Ints, rows: int) -> Ints:
    """Return cofiring, (neurons, neurons), with a neuron before all others that always fires.

    It is the root of trees, and makes the number of rows a part of the array: arrays of several
    samples add up.
    """
    firing = cofiring.diagonal()
    return np.block([[np.array([[rows]]), firing[None]], [firing[:, None], cofiring]])


class _Code:
    """The code of a tree, made of how often each two neurons fire together."""

    def __init__(self, both: Ints) -> None:
        self._parents = tree_of(both)
        joint = _joint(both, np.arange(1, len(both)), self._parents)
        # Krichevsky and Trofimov's estimate, by which what did not occur has a code, too.
        self._lengths = -np.log2((joint + 0.5) / (joint.sum(axis=0) + 1))

    def bits(self, both: Ints) -> float:
        """Return how many bits some rows take."""
        joint = _joint(both, np.arange(1, len(both)), self._parents)
        return float((joint * self._lengths).sum())


def tree_of(both: Ints) -> Ints:
    """Return the parents of neurons 1, 2, ...: their tree with the most mutual information.

    By Prim's algorithm, from neuron 0 on.
    """
    parents, most = np.zeros(len(both), np.int64), np.full(len(both), -np.inf)
    outside = np.ones(len(both), np.bool_)
    added = 0
    for _ in range(len(both) - 1):
        outside[added] = False
        told = _mutual_information(both, added)
        better = outside & (told > most)
        parents[better], most[better] = added, told[better]
        added = int(np.argmax(np.where(outside, most, -np.inf)))
    return parents[1:]


def _mutual_information(both: Ints, neuron: int) -> Floats:
    """Return how many bits one neuron tells of each, times the number of rows."""
    joint = _joint(both, np.arange(len(both)), np.array(neuron)).astype(np.float64)
    rows = max(1, int(both[0, 0]))
    expected = joint.sum(axis=0) * joint.sum(axis=1, keepdims=True) / rows
    ratios = np.divide(joint, expected, out=np.ones_like(joint), where=joint > 0)
    found: Floats = (joint * np.log2(ratios)).sum(axis=(0, 1))
    return found


def _joint(both: Ints, one: Ints, other: Ints) -> Ints:
    """Return in how many rows neurons are silent or fire while others are silent or fire.

    (2, 2, neurons): the first axis is about ``one``, the second about ``other``.
    """
    together, first, second = both[one, other], both[one, one], both[other, other]
    neither = both[0, 0] - first - second + together
    return np.array([[neither, second - together], [first - together, together]])
