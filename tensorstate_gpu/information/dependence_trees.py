"""Dependence trees: codes of states that know which neurons fire together, as bounds of an entropy.

In a tree, each neuron's probability to fire depends on one other neuron, its parent. Of all trees,
the one whose neurons tell most of their parents has the shortest code (Chow and Liu, "Approximating
discrete probability distributions with dependence trees", 1968).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FOLDS = 4  # so that a tree is made of 3/4 of the groups
MOST_CELLS = 1 << 21  # of pairs of neurons, in groups of samples whose trees are made together


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
    codes = _Codes.of(np.stack([total - own for own in of_folds]))
    each = (codes.at((group % FOLDS,)).bits(cofiring(group)) for group in range(groups))
    return np.array([float(bits) for bits in each])


def code_lengths_together(cofiring: Ints) -> Floats:
    """Return the same of small samples: (samples, groups).

    ``cofiring``: of each group what with_constant() returns, (samples, groups, neurons + 1,
    neurons + 1).
    """
    groups = cofiring.shape[1]
    folds = [cofiring[:, fold::FOLDS].sum(axis=1, keepdims=True) for fold in range(FOLDS)]
    of_folds = np.concatenate(folds, axis=1)
    codes = _Codes.of(of_folds.sum(axis=1, keepdims=True) - of_folds)
    return codes.at((slice(None), np.arange(groups) % FOLDS)).bits(cofiring)


def with_constant(cofiring: Ints, rows: int) -> Ints:
    """Return cofiring, (neurons, neurons), with a neuron before all others that always fires.

    It is the root of trees, and makes the number of rows a part of the array: arrays of several
    samples add up.
    """
    firing = cofiring.diagonal()
    return np.block([[np.array([[rows]]), firing[None]], [firing[:, None], cofiring]])


@dataclass(frozen=True, slots=True, eq=False)
class _Codes:
    """The codes of trees, made of how often each two neurons fire together.

    ``parents``: of each neuron, (..., neurons). ``lengths``: the bits of its being silent or firing
    while its parent is silent or fires, (..., 2, 2, neurons).
    """

    parents: Ints
    lengths: Floats

    @classmethod
    def of(cls, both: Ints) -> _Codes:
        """Return those of (..., neurons + 1, neurons + 1)."""
        parents = tree_of(both)
        joint = _joint_of_children(both, parents)
        # Krichevsky and Trofimov's estimate, by which what did not occur has a code, too.
        lengths: Floats = -np.log2((joint + 0.5) / (joint.sum(axis=-3, keepdims=True) + 1))
        return cls(parents, lengths)

    def at(self, place: Any) -> _Codes:
        """Return some of the codes."""
        return _Codes(self.parents[place], self.lengths[place])

    def bits(self, both: Ints) -> Floats:
        """Return how many bits some rows take, (...)."""
        joint = _joint_of_children(both, self.parents)
        found: Floats = (joint * self.lengths).sum(axis=(-3, -2, -1))
        return found


def tree_of(both: Ints) -> Ints:
    """Return the parents of neurons 1, 2, ...: their tree with the most mutual information.

    By Prim's algorithm, from neuron 0 on; of several samples at once, (..., neurons + 1, neurons +
    1).
    """
    each = both.reshape(-1, *both.shape[-2:])
    firing, samples = np.diagonal(each, axis1=1, axis2=2), np.arange(len(each))
    parents, most = np.zeros(firing.shape, np.int64), np.full(firing.shape, -np.inf)
    outside = np.ones(firing.shape, np.bool_)
    added = np.zeros(len(each), np.int64)
    for _ in range(each.shape[1] - 1):
        outside[samples, added] = False
        joint = _joint(
            each[:, 0, :1], firing, firing[samples, added][:, None], each[samples, added]
        )
        told = _mutual_information(joint)
        better = outside & (told > most)
        parents = np.where(better, added[:, None], parents)
        most = np.where(better, told, most)
        added = np.argmax(np.where(outside, most, -np.inf), axis=1)
    return parents[:, 1:].reshape(*both.shape[:-2], -1)


def _mutual_information(joint: Ints) -> Floats:
    """Return how many bits two neurons tell of each other, times the number of rows: (...).

    Of (..., 2, 2, neurons).
    """
    each = joint.astype(np.float64)  # whose products are large
    of_first, of_second = each.sum(axis=-2, keepdims=True), each.sum(axis=-3, keepdims=True)
    expected = of_first * of_second / np.maximum(1, of_first.sum(axis=-3, keepdims=True))
    ratios = np.divide(each, expected, out=np.ones_like(each), where=each > 0)
    found: Floats = (each * np.log2(ratios)).sum(axis=(-3, -2))
    return found


def _joint_of_children(both: Ints, parents: Ints) -> Ints:
    """Return _joint() of each neuron but the first, and its parent."""
    firing = np.diagonal(both, axis1=-2, axis2=-1)
    together = np.take_along_axis(both[..., 1:, :], parents[..., None], axis=-1)[..., 0]
    of_parents = np.take_along_axis(firing, parents, axis=-1)
    return _joint(both[..., 0, :1], firing[..., 1:], of_parents, together)


def _joint(rows: Ints, first: Ints, second: Ints, together: Ints) -> Ints:
    """Return in how many rows neurons are silent or fire while others are silent or fire.

    (..., 2, 2, neurons): the first of these axes is about those that fire in ``first`` rows, the
    second about those that fire in ``second`` of them; both do in ``together``.
    """
    neither = rows - first - second + together
    silent = np.stack([neither, second - together], axis=-2)
    return np.stack([silent, np.stack([first - together, together], axis=-2)], axis=-3)
