"""How often each neuron fires, and how much that tells."""

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import share
from tensorstate_gpu.neurons.samples import States, sample_of


def firing_rates(states: States, neurons: int | None = None) -> NDArray[np.float64]:
    """Return the share of states in which each neuron fires.

    Parameters
    ----------
    states : uint8 array of shape (states, bytes), StateCounts, capture point, layer of a Store
        Packed states on a CPU or GPU, with repetitions; or what has a histogram of them.
    neurons : int, optional
        How many bits of a packed row are neurons; all of them by default.

    Returns
    -------
    float64 array of shape (neurons,), in host memory
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If ``states`` is none of these, is empty, or has bits set beyond ``neurons``.

    Examples
    --------
    >>> import numpy as np
    >>> firing_rates(np.array([[0b01], [0b11], [0b01], [0b00]], np.uint8), neurons=3)
    array([0.75, 0.25, 0.  ])
    """
    sample = sample_of(states, neurons)
    return sample.firing_counts() / sample.total


def neuron_entropies(states: States, neurons: int | None = None) -> NDArray[np.float64]:
    """Return the entropy of each neuron alone, in bits.

    Their sum is an upper bound of the entropy of the states: they would have it if all neurons
    fired independently (Shannon 1948, section 6).

    Parameters
    ----------
    states, neurons
        As for `firing_rates`.

    Returns
    -------
    float64 array of shape (neurons,), in host memory
        From 0, for a neuron that never changes, to 1, for one that fires in half of the states.

    Raises
    ------
    TypeError, ValueError
        As for `firing_rates`.

    Examples
    --------
    >>> import numpy as np
    >>> neuron_entropies(np.array([[0b01], [0b01], [0b00], [0b00]], np.uint8), neurons=2)
    array([1., 0.])
    """
    return entropies_of(firing_rates(states, neurons))


def entropies_of(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the entropies in bits of neurons with these firing rates, from 0 to 1."""
    shares = np.stack((rates, 1 - rates))
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    bits: NDArray[np.float64] = np.abs((shares * logs).sum(axis=0))
    return bits


def dead(states: States, neurons: int | None = None, *, at_most: float = 0.0) -> NDArray[np.int64]:
    """Return the neurons that never fire, or in a share of at most ``at_most`` of the states.

    Parameters
    ----------
    states, neurons
        As for `firing_rates`.
    at_most : float
        The greatest firing rate of a dead neuron, from 0 to 1.

    Returns
    -------
    int64 array
        Their indices, ascending.

    Raises
    ------
    TypeError, ValueError
        As for `firing_rates`, and for an ``at_most`` that is no share.

    Examples
    --------
    >>> import numpy as np
    >>> dead(np.array([[0b001], [0b011]], np.uint8), neurons=3)
    array([2])
    """
    limit = share(at_most, "at_most")
    return np.flatnonzero(firing_rates(states, neurons) <= limit)


def always_on(
    states: States, neurons: int | None = None, *, at_least: float = 1.0
) -> NDArray[np.int64]:
    """Return the neurons that always fire, or in a share of at least ``at_least`` of the states.

    Parameters
    ----------
    states, neurons
        As for `firing_rates`.
    at_least : float
        The least firing rate of such a neuron, from 0 to 1.

    Returns
    -------
    int64 array
        Their indices, ascending.

    Raises
    ------
    TypeError, ValueError
        As for `firing_rates`, and for an ``at_least`` that is no share.

    Examples
    --------
    >>> import numpy as np
    >>> always_on(np.array([[0b001], [0b011]], np.uint8), neurons=3)
    array([0])
    """
    limit = share(at_least, "at_least")
    return np.flatnonzero(firing_rates(states, neurons) >= limit)
