"""How much the states of two classes differ, and how much they would if labels told nothing."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorstate_gpu._arguments import positive_integer
from tensorstate_gpu.information.divergences import js_divergence
from tensorstate_gpu.information.label_permutations import (
    class_numbers,
    generator_of,
    rows_by_instance,
)

Ints = NDArray[np.int64]
Matrix = NDArray[np.float64]


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
    states: ArrayLike,
    labels: ArrayLike,
    rng: np.random.Generator | int,
    *,
    permutations: int = 19,
) -> ClassDivergences:
    """Return how much the states of each two classes differ, compared with permuted labels.

    Two samples of one source differ too, the more the fewer their rows. So the labels of the
    *instances* of two classes are permuted among them, as `permutation_test` does: what is above
    that is a difference of the classes.

    Parameters
    ----------
    states, labels, rng
        As for `permutation_test`.
    permutations : int
        Of each two classes. The smallest possible p-value is 1 / (permutations + 1).

    Returns
    -------
    ClassDivergences

    Raises
    ------
    TypeError, ValueError
        As for `permutation_test`; if there is one class only.

    Examples
    --------
    >>> states = np.repeat([0, 0, 7], 20)  # a state for each instance
    >>> found = class_divergences(states, np.repeat(["cat", "dog", "owl"], 20), rng=0)
    >>> found.divergence[0].tolist()  # cats and dogs have the same state, owls another
    [0.0, 0.0, 1.0]
    >>> found.p_value[0].tolist()
    [1.0, 1.0, 0.05]
    """
    count, generator = positive_integer(permutations, "permutations"), generator_of(rng)
    classes = class_numbers(labels)
    rows = rows_by_instance(states, len(classes))
    names = np.unique(np.asarray(labels))
    if len(names) < 2:
        raise ValueError(f"labels must be of two or more classes, got {len(names)}")
    shape = len(names), len(names)
    found = ClassDivergences(names, np.zeros(shape), np.zeros(shape), np.ones(shape))
    for one, other in zip(*np.triu_indices(len(names), 1), strict=True):
        chosen = (classes == one) | (classes == other)
        is_one = classes[chosen] == one
        pair = _Pair(rows[chosen])
        value = pair.divergence(is_one)
        null = np.array([pair.divergence(generator.permutation(is_one)) for _ in range(count)])
        # A sum in another order has other last digits.
        p_value = (1 + int((null >= value - 1e-12).sum())) / (1 + count)
        for place in ((one, other), (other, one)):
            found.divergence[place], found.null[place] = value, null.mean()
            found.p_value[place] = p_value
    return found


class _Pair:
    """The states of the instances of two classes."""

    def __init__(self, rows: Ints) -> None:
        distinct, places = np.unique(rows, return_inverse=True)
        self._places, self._distinct = places.reshape(rows.shape), len(distinct)
        self._total = self._count(self._places)

    def _count(self, places: Ints) -> Ints:
        return np.bincount(places.ravel(), minlength=self._distinct).astype(np.int64)

    def divergence(self, is_one: NDArray[np.bool_]) -> float:
        """Return the divergence if these instances are of one class, and the rest of the other."""
        counts = self._count(self._places[is_one])
        return js_divergence(counts, self._total - counts)
