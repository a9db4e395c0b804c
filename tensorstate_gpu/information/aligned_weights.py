"""Two histograms over the same states: aligned arrays, or objects that align themselves."""

import math
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.array_types import Weights
from tensorstate_gpu._arrays.host_arrays import on_host
from tensorstate_gpu.information.counts_argument import weights as check_weights
from tensorstate_gpu.information.counts_of_counts import Tallied

Floats = NDArray[np.float64]


@runtime_checkable
class Alignable(Protocol):
    """A histogram that knows its states, such as StateCounts."""

    @property
    def neurons(self) -> int: ...

    def aligned_counts(self, other: object) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...


def aligned(
    first: Weights, second: Weights, names: tuple[str, str] = ("first", "second")
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Return the weights of both for each state, in host memory. Checks them as `weights` does.

    ``names``: those of the arguments, for errors.
    """
    one, other = names
    for weights, name in ((first, one), (second, other)):
        if isinstance(weights, Tallied) and not isinstance(weights, Alignable):
            raise TypeError(
                f"{name} is a {type(weights).__name__}, but states are aligned in memory: pass the "
                "StateCounts that its load() or gather() returns"
            )
    if isinstance(first, Alignable) and isinstance(second, Alignable):
        if first.neurons != second.neurons:
            raise ValueError(
                f"{one} has {first.neurons} neurons, {other} has {second.neurons}: "
                "states of different neurons cannot be compared"
            )
        first, second = first.aligned_counts(second)
    elif isinstance(first, Alignable) or isinstance(second, Alignable):
        kinds = f"{type(first).__name__} and {type(second).__name__}"
        raise TypeError(
            f"{one} and {other} must both be StateCounts, or both arrays whose entries belong "
            f"together, got {kinds}"
        )
    pair = on_host(check_weights(first, one)), on_host(check_weights(second, other))
    if pair[0].shape != pair[1].shape:
        raise ValueError(
            f"{one} and {other} must be aligned, got {len(pair[0])} and {len(pair[1])} states"
        )
    return pair


class Distribution(NamedTuple):
    """Probabilities of states, and their logarithms, which do not underflow."""

    shares: Floats
    log2: Floats  # -inf for states that do not occur

    @classmethod
    def of(cls, weights: NDArray[np.generic], added: float = 0.0) -> "Distribution":
        exact = np.asarray(weights, np.float64) + added
        largest = float(exact.max())
        with np.errstate(under="ignore", divide="ignore"):
            relative = exact / largest
            total = float(relative.sum())
            logs = np.log2(exact) - (math.log2(largest) + math.log2(total))
            return cls(relative / total, logs)
