"""The states themselves: how many neurons fire in each, which are frequent, how many there are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import positive_integer
from tensorstate_gpu.neurons.samples import States, counts_of, sample_of


def active_neurons(states: States, neurons: int | None = None) -> NDArray[np.int64]:
    """Return how many states have 0, 1, 2, ... firing neurons.

    Parameters
    ----------
    states, neurons
        As for `firing_rates`.

    Returns
    -------
    int64 array of shape (neurons + 1,), in host memory
        Entry k counts the states in which k neurons fire. Those of two samples add up.

    Raises
    ------
    TypeError, ValueError
        As for `firing_rates`.

    Examples
    --------
    >>> import numpy as np
    >>> counts = active_neurons(np.array([[0b01], [0b11], [0b10], [0b00]], np.uint8), neurons=2)
    >>> counts
    array([1, 2, 1])
    >>> float(np.arange(3) @ counts / counts.sum())  # on average
    1.0
    """
    return sample_of(states, neurons).active_neurons()


@dataclass(frozen=True, eq=False)
class TopStates:
    """The most frequent states of a sample.

    Attributes
    ----------
    packed : uint8 array of shape (found, bytes)
        The states, the most frequent first; equally frequent ones in their order.
    counts : int64 array of shape (found,)
        How often each occurred.
    shares : float64 array of shape (found,)
        The same, as shares of all states.
    """

    __module__ = "tensorstate_gpu.neurons"

    packed: NDArray[np.uint8]
    counts: NDArray[np.int64]
    shares: NDArray[np.float64]


def top_states(states: States, neurons: int | None = None, *, most: int = 10) -> TopStates:
    """Return the most frequent states, with the share of each.

    Parameters
    ----------
    states, neurons
        As for `firing_rates`.
    most : int
        How many to return; fewer if there are fewer.

    Returns
    -------
    TopStates

    Raises
    ------
    TypeError, ValueError
        As for `firing_rates`, and for a ``most`` below 1.

    Examples
    --------
    >>> import numpy as np
    >>> top = top_states(np.array([[3], [1], [3], [0]], np.uint8), most=2)
    >>> top.packed[:, 0].tolist(), top.shares.tolist()
    ([3, 0], [0.5, 0.25])
    """
    found = positive_integer(most, "most")
    counts = counts_of(states, neurons)
    order = np.argsort(-counts.counts, kind="stable")[:found]
    numbers = counts.counts[order]
    return TopStates(counts.packed[order], numbers, numbers / counts.total)


def patterns_seen(states: States, neurons: int | None = None) -> int:
    """Return how many distinct states there are.

    Parameters
    ----------
    states, neurons
        As for `firing_rates`.

    Returns
    -------
    int

    Raises
    ------
    TypeError, ValueError
        As for `firing_rates`.

    Notes
    -----
    A network of ReLU layers is linear where the pattern of firing neurons of all its layers is the
    same (Montúfar et al. 2014, https://arxiv.org/abs/1402.1869). So the patterns seen are a lower
    bound of its linear regions, of one layer, or of several if `bits.concatenate_neurons` has
    joined their states. Each input may be of a new region: then the number is that of the inputs.

    Examples
    --------
    >>> import numpy as np
    >>> patterns_seen(np.array([[3], [1], [3], [0]], np.uint8))
    3
    """
    return len(counts_of(states, neurons))
