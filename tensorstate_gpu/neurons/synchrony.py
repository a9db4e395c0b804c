"""Which neurons fire together: co-firing, correlations, and neurons that tell the same."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import flag, real
from tensorstate_gpu._states.backends import cpu
from tensorstate_gpu.neurons.samples import States, counts_of, sample_of


def cofiring(states: States, neurons: int | None = None) -> NDArray[np.int64]:
    """Return in how many states both of two neurons fire.

    Counts, not shares: those of two samples add up.

    Parameters
    ----------
    states, neurons
        As for `firing_rates`.

    Returns
    -------
    int64 array of shape (neurons, neurons), in host memory
        Symmetric; on the diagonal, in how many states each neuron fires.

    Raises
    ------
    TypeError, ValueError
        As for `firing_rates`.

    Examples
    --------
    >>> import numpy as np
    >>> cofiring(np.array([[0b01], [0b11], [0b10], [0b11]], np.uint8), neurons=2)
    array([[3, 2],
           [2, 3]])
    """
    return sample_of(states, neurons).cofiring()


def correlations(
    states: States, neurons: int | None = None, *, constant: float = math.nan
) -> NDArray[np.float64]:
    """Return the correlation of each pair of neurons, as numbers that are 0 or 1.

    Parameters
    ----------
    states, neurons
        As for `firing_rates`.
    constant : float
        What stands for the correlation with a neuron that never changes, which is not defined. For
        example 0, for algorithms that take no NaN.

    Returns
    -------
    float64 array of shape (neurons, neurons), in host memory
        From -1 to 1: 1 for neurons that always agree, -1 for neurons that never do.

    Raises
    ------
    TypeError, ValueError
        As for `firing_rates`.

    Notes
    -----
    Pearson's coefficient; of two binary numbers it is phi (Yule 1912). (N c - a b) divided by the
    root of a (N - a) b (N - b), for N states, in which one neuron fires a times, the other b times,
    and both c times.

    Examples
    --------
    >>> import numpy as np
    >>> correlations(np.array([[0b01], [0b10], [0b10], [0b01]], np.uint8), neurons=2)
    array([[ 1., -1.],
           [-1.,  1.]])
    """
    constant = real(constant, "constant")
    sample = sample_of(states, neurons)
    return correlations_of(sample.cofiring(), sample.total, constant)


def correlations_of(
    cofiring: NDArray[np.int64], states: int, constant: float = math.nan
) -> NDArray[np.float64]:
    """Return the correlations of neurons of which these numbers fire together in so many states."""
    often = cofiring.diagonal() > states // 2
    both = _both_are_rare(cofiring, states, often) / states
    rates = both.diagonal()
    deviations = np.sqrt(rates * (1 - rates))
    expected = rates[:, None] * rates
    covariances = np.where(often[:, None] == often, both - expected, expected - both)
    defined = (rates > 0)[:, None] & (rates > 0)
    found: NDArray[np.float64] = np.full_like(both, constant)
    np.divide(covariances, deviations[:, None] * deviations, out=found, where=defined)
    np.clip(found, -1, 1, out=found)  # leaves NaN
    found[~defined] = constant
    return found


def _both_are_rare(
    cofiring: NDArray[np.int64], states: int, often: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return in how many states both of two neurons do what they do seldom: (neurons, neurons).

    A neuron that fires ``often`` is silent seldom. Shares of these states are at most a half, so
    that one minus them keeps its digits: of 2**54 states, all but one are a share of 1.
    """
    firing = cofiring.diagonal()
    seldom = np.where(often, states - firing, firing)
    first = np.where(often[:, None], firing - cofiring, cofiring)
    return np.where(often, seldom[:, None] - first, first)


@dataclass(frozen=True)
class EquivalentNeurons:
    """Neurons of which each tells what the others do.

    Attributes
    ----------
    equal : tuple of int
        The first of them, and those that fire whenever it does, and never else.
    opposite : tuple of int
        Those that fire whenever it does not, and never else.
    """

    __module__ = "tensorstate_gpu.neurons"

    equal: tuple[int, ...]
    opposite: tuple[int, ...]


def equivalent_neurons(
    states: States, neurons: int | None = None, *, opposite: bool = True, constant: bool = False
) -> list[EquivalentNeurons]:
    """Return groups of two or more neurons that are equal in all states, or opposite. Exact.

    Of each group one neuron tells the states of all: the others add nothing to the entropy.

    Parameters
    ----------
    states, neurons
        As for `firing_rates`.
    opposite : bool
        Whether neurons that are opposite in all states belong together.
    constant : bool
        Whether neurons that never change are a group too: see `dead` and `always_on`.

    Returns
    -------
    list of EquivalentNeurons, in the order of their first neurons

    Raises
    ------
    TypeError, ValueError
        As for `firing_rates`.

    Examples
    --------
    >>> import numpy as np
    >>> states = np.array([[0b0011], [0b1100], [0b0111]], np.uint8)
    >>> equivalent_neurons(states, neurons=4)
    [EquivalentNeurons(equal=(0, 1), opposite=(3,))]
    """
    opposite, constant = flag(opposite, "opposite"), flag(constant, "constant")
    counts = counts_of(states, neurons)
    bitmaps = cpu().transpose(counts.packed)[: counts.neurons]
    every = cpu().transpose(np.ones((len(counts), 1), np.uint8))[0]  # of a neuron that always fires
    inverted = opposite & (bitmaps[:, 0] & 1 == 1)  # then opposite neurons have equal bitmaps
    bitmaps[inverted] ^= every
    groups = sorted(_equal_rows(bitmaps), key=lambda group: int(group[0]))
    return [
        EquivalentNeurons(
            tuple(group[inverted[group] == inverted[group[0]]].tolist()),
            tuple(group[inverted[group] != inverted[group[0]]].tolist()),
        )
        for group in groups
        if constant or not _never_changes(bitmaps[group[0]], every)
    ]


def _equal_rows(bitmaps: NDArray[np.uint64]) -> list[NDArray[np.int64]]:
    """Return the indices, ascending, of each group of two or more equal rows."""
    edges, order = cpu().sort(bitmaps.view(np.uint8))
    groups = np.split(order, edges[1:-1])
    return [group for group in groups if len(group) > 1]


def _never_changes(bitmap: NDArray[np.uint64], every: NDArray[np.uint64]) -> bool:
    return not bitmap.any() or np.array_equal(bitmap, every)
