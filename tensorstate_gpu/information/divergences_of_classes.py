"""How much the states of two classes differ, and how much they would if labels told nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorstate_gpu._process.progress import ProgressCallback, running_total, with_progress
from tensorstate_gpu.information.divergences import js_divergences
from tensorstate_gpu.information.label_permutations import checked_permutations, generator_of
from tensorstate_gpu.information.labelled_rows import HasInstances, Instances, LabelledRows

Ints = NDArray[np.int64]
Matrix = NDArray[np.float64]
_CELLS = 1 << 18  # states of permutations that are compared together


@dataclass(frozen=True, slots=True, eq=False)
class ClassDivergences:
    """The Jensen-Shannon divergence of the states of each two classes, and its null.

    ``labels``, (classes,): sorted; the matrices, (classes, classes), are in this order.
    ``divergence``: in bits, from 0 to 1. ``null``: its mean if the labels of the two classes are
    permuted. ``p_value``: how probable at least this divergence is then.
    """

    __module__ = "tensorstate_gpu.information"

    labels: NDArray[np.generic]
    divergence: Matrix
    null: Matrix
    p_value: Matrix

    def __repr__(self) -> str:
        return f"ClassDivergences(of {len(self.labels)} classes)"


def class_divergences(
    states: ArrayLike | HasInstances,
    labels: ArrayLike,
    rng: np.random.Generator | int,
    *,
    instances: Instances = None,
    permutations: int = 19,
    progress: ProgressCallback | None = None,
) -> ClassDivergences:
    """Return how much the states of each two classes differ, compared with permuted labels.

    Two samples of one source differ too, the more the fewer their rows. So the labels of the
    *instances* of two classes are permuted among them, as `permutation_test` does: what is above
    that is a difference of the classes.

    Parameters
    ----------
    states, labels, rng, instances
        As for `permutation_test`.
    permutations : int
        Of each two classes. The smallest possible p-value is 1 / (permutations + 1). At most
        1,000,000.
    progress : callable, optional
        Is called with the permutations done so far, of all pairs of classes, and all.

    Returns
    -------
    ClassDivergences

    Raises
    ------
    TypeError, ValueError
        As for `permutation_test`; if there is one class only, or if a class has no rows.

    Examples
    --------
    >>> states = np.repeat([0, 0, 7], 20)  # a state for each instance
    >>> found = class_divergences(states, np.repeat(["cat", "dog", "owl"], 20), rng=0)
    >>> found.divergence[0].tolist()  # cats and dogs have the same state, owls another
    [0.0, 0.0, 1.0]
    >>> found.p_value[0].tolist()
    [1.0, 1.0, 0.05]
    """
    count, generator = checked_permutations(permutations), generator_of(rng)
    rows = LabelledRows.of(states, labels, instances)
    names, classes = rows.names, rows.classes
    _check_classes(rows)
    shape = len(names), len(names)
    found = ClassDivergences(names, np.zeros(shape), np.zeros(shape), np.ones(shape))
    on_done = running_total(progress, count * (len(names) * (len(names) - 1) // 2))
    for one, other in zip(*np.triu_indices(len(names), 1), strict=True):
        chosen = (classes == one) | (classes == other)
        is_one = classes[chosen] == one
        permuted = (generator.permutation(is_one) for _ in range(count))
        samples = chain([is_one], with_progress(permuted, lambda _: 1, on_done))
        value, *null = _Pair(rows, chosen).divergences(samples)
        # A sum in another order has other last digits.
        p_value = (1 + sum(each >= value - 1e-12 for each in null)) / (1 + count)
        for place in ((one, other), (other, one)):
            found.divergence[place], found.null[place] = value, np.mean(null)
            found.p_value[place] = p_value
    return found


def _check_classes(rows: LabelledRows) -> None:
    if len(rows.names) < 2:
        raise ValueError(f"labels must be of two or more classes, got {len(rows.names)}")
    if empty := sorted(set(range(len(rows.names))) - set(rows.classes.tolist())):
        raise ValueError(f"no instance of class {rows.names[empty[0]].item()!r} has rows")


class _Pair:
    """The states of the instances of two classes."""

    def __init__(self, rows: LabelledRows, chosen: NDArray[np.bool_]) -> None:
        here = chosen[rows.instances]
        self._instances = (np.cumsum(chosen) - 1)[rows.instances[here]]
        distinct, self._places = np.unique(rows.states[here], return_inverse=True)
        self._distinct = len(distinct)
        self._total = self._count(self._places)

    def divergences(self, samples: Iterable[NDArray[np.bool_]]) -> list[float]:
        """Return the divergence if these instances are of one class, and the rest of the other.

        ``samples``: which instances, of each divergence in turn.
        """
        counts = (self._count(self._places[is_one[self._instances]]) for is_one in samples)
        found: list[float] = []
        while block := list(islice(counts, max(1, _CELLS // len(self._total)))):
            first = np.stack(block)
            p, q = (part / part.sum(axis=1, keepdims=True) for part in (first, self._total - first))
            found += js_divergences(p, q).tolist()
        return found

    def _count(self, places: Ints) -> Ints:
        return np.bincount(places, minlength=self._distinct).astype(np.int64)
