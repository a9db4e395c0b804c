"""Efficiency of layers and networks, and aIQ."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from tensorstate_gpu._arguments import non_negative, plain_numbers, positive_integer
from tensorstate_gpu._arguments import order as check_order
from tensorstate_gpu._arrays.array_types import Weights
from tensorstate_gpu._warnings import warn_user
from tensorstate_gpu.errors import NothingCaptured
from tensorstate_gpu.information.counts_argument import agreed_neurons
from tensorstate_gpu.information.entropies import entropy
from tensorstate_gpu.information.estimators import Estimator

Measure = TypeVar("Measure")


def efficiency(
    counts: Weights,
    neurons: int | None = None,
    alpha1: float = 1.0,
    alpha2: float | None = None,
    estimator: Estimator = "plugin",
) -> float:
    """Return how much of its capacity a layer uses: H_alpha1 / neurons, or H_alpha1 / H_alpha2.

    Parameters
    ----------
    counts : array_like of shape (states,), or an object with such an array as ``.counts``
        As for `entropy`.
    neurons : int, optional
        Neurons of the layer, > 0. This is also the maximum of its entropy, in bits. By default
        those of ``counts``; an array knows none, and needs it.
    alpha1, alpha2 : float
        Orders of the entropies. Without ``alpha2`` the entropy is divided by ``neurons``.
    estimator : str
        As for `entropy`, of both entropies.

    Returns
    -------
    float
        A ratio without unit; zero over zero is 0. With an estimator other than "plugin", or an
        ``alpha2`` above ``alpha1``, it may be greater than 1.

    Raises
    ------
    TypeError, ValueError
        As for `entropy`; if ``neurons`` is missing, not a positive integer, too few for the states,
        or not that of ``counts``; if both entropies are infinite.

    Notes
    -----
    Schaub and Hotaling, "Assessing intelligence in artificial neural networks"
    (https://arxiv.org/abs/2006.02909): neural efficiency, there with Shannon's entropy.

    Examples
    --------
    >>> efficiency([5, 5, 5, 5], neurons=4)
    0.5
    >>> efficiency([7], neurons=4, alpha2=0)
    0.0
    """
    size = agreed_neurons(counts, neurons)
    if size is None:
        raise TypeError("the efficiency needs neurons=, which StateCounts knows")
    if getattr(counts, "neurons", None) is None and entropy(counts, 0) > size:
        raise ValueError(f"counts has more states than {size} neurons can have")
    used = entropy(counts, check_order(alpha1, "alpha1"), estimator, size)
    available: float = size
    if alpha2 is not None:
        available = entropy(counts, check_order(alpha2, "alpha2"), estimator, size)
    if used == available == math.inf:
        raise ValueError("both entropies are infinite: too few rows have equal states")
    if available == 0:  # a single state; or shares so small that their logarithm is 0
        return 0.0 if used == 0 else math.inf
    return used / available


def ceiling(rows: int, neurons: int) -> float:
    """Return the largest possible efficiency of ``rows`` rows: min(1, log2(rows) / neurons).

    Rows that all differ have log2(rows) bits of entropy, and this is the maximum.

    Parameters
    ----------
    rows, neurons : int
        Captured rows and the layer's neurons, both > 0; else TypeError or ValueError.

    Returns
    -------
    float
        A ratio from 0 to 1.

    Examples
    --------
    >>> ceiling(rows=1024, neurons=100)
    0.1
    >>> ceiling(rows=1024, neurons=8)
    1.0
    """
    number, size = positive_integer(rows, "rows", None), positive_integer(neurons, "neurons")
    return min(1.0, math.log2(number) / size)


def network_efficiency(efficiencies: Any) -> float:
    """Return the geometric mean of the efficiencies of a network's layers.

    Parameters
    ----------
    efficiencies : iterable of float, mapping of name to float, or model
        One number per layer; or an object with ``efficiency_layers``, such as a run or a model that
        `build_efficiency_model` returned, whose capture points supply the numbers.

    Returns
    -------
    float
        A ratio without unit; 0 if any layer has efficiency 0.

    Raises
    ------
    TypeError, ValueError
        If the argument is neither numbers nor an object with capture points, if there are no
        layers, if an efficiency is negative, NaN or infinite, or if no capture point has rows.

    Warns
    -----
    UserWarning
        If some capture points have no rows, and are left out.

    Notes
    -----
    Schaub and Hotaling (https://arxiv.org/abs/2006.02909).

    Examples
    --------
    >>> network_efficiency([0.25, 1.0])
    0.5
    >>> network_efficiency({"conv1": 0.0, "conv2": 0.9})
    0.0
    """
    values = [non_negative(value, "efficiencies") for value in _layer_values(efficiencies)]
    if not values:
        raise ValueError("efficiencies is empty; at least one layer is needed")
    if min(values) == 0:
        return 0.0
    # Relative to the largest, so that the mean of equal values is exactly that value.
    top = max(values)
    mean = math.fsum(math.log2(v) - math.log2(top) for v in values) / len(values)
    return top * math.exp2(mean)


def network_efficiencies_with(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Return the network efficiencies with each layer's in turn changed to another: all >= 0.

    Each is known from the product of all, so it takes as long as few of them.
    """
    whole, positive = network_efficiency(values), [value for value in values if value]
    if len(positive) == len(values):
        logs = ((math.log2(other) if other else -math.inf) for other in others)
        changes = [log - math.log2(value) for log, value in zip(logs, values, strict=True)]
        return [whole * math.exp2(change / len(values)) for change in changes]
    found = [0.0] * len(values)
    if len(positive) == len(values) - 1:
        place = next(place for place, value in enumerate(values) if not value)
        found[place] = network_efficiency([*positive, others[place]])
    return found


def aIQ(net_efficiency: float, accuracy: float, weight: float) -> float:
    """Return the artificial intelligence quotient of efficiency and accuracy.

    (net_efficiency * accuracy**weight) ** (1 / (weight + 1)): a geometric mean in which accuracy
    counts ``weight`` times.

    Parameters
    ----------
    net_efficiency, accuracy : float
        Of the network: ratios, >= 0; an accuracy of 97 % is 0.97. Or both in percent, as a mean of
        which aIQ is in percent, too. One of each gives a number that means nothing.
    weight : float
        Weight of the accuracy, > 0: the paper's beta.

    Returns
    -------
    float
        From 0 to 1 when the other two are: a result above 1 tells of percents.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real number, or is negative, NaN or infinite, or if ``weight`` is 0.

    Notes
    -----
    Schaub and Hotaling (https://arxiv.org/abs/2006.02909).

    Examples
    --------
    >>> aIQ(0.25, 1.0, weight=1)
    0.5
    >>> aIQ(25, 100, weight=1)
    50.0
    """
    net = non_negative(net_efficiency, "net_efficiency")
    quality = non_negative(accuracy, "accuracy")
    beta = non_negative(weight, "weight")
    if beta == 0:
        raise ValueError("weight must be greater than 0, got 0")
    try:
        product = net * quality**beta
    except OverflowError:
        product = math.inf
    if sys.float_info.min <= product < math.inf:
        return float(product ** (1 / (beta + 1)))
    return float(net ** (1 / (beta + 1))) * float(quality ** (beta / (beta + 1)))


def measure_layers(
    points: Iterable[Any], measure: Callable[[Any], Measure]
) -> tuple[list[Measure], list[str]]:
    """Return a measure of each capture point that has rows, and the names of the others.

    Raises NothingCaptured if none has rows.
    """
    measures: list[Measure] = []
    errors: dict[str, NothingCaptured] = {}
    for point in points:
        try:
            measures.append(measure(point))
        except NothingCaptured as error:
            errors[point.name] = error
    if errors and not measures:
        raise next(iter(errors.values()))
    return measures, list(errors)


def _layer_values(efficiencies: Any) -> Iterable[Any]:
    """Return the numbers of an argument of network_efficiency()."""
    points = getattr(efficiencies, "efficiency_layers", None)
    if points is not None:
        values, missing = measure_layers(points, lambda point: point.efficiency())
        if missing:
            warn_user(
                f"nothing was captured of {', '.join(missing)}: the network's efficiency is that "
                "of the other layers"
            )
        return values
    if isinstance(efficiencies, Mapping):
        return efficiencies.values()
    values = efficiencies
    if hasattr(efficiencies, "tolist"):
        values = plain_numbers(efficiencies, "efficiencies")
    is_model = callable(efficiencies)  # a sequential one can be iterated
    if is_model or isinstance(values, (str, bytes, bytearray)) or not isinstance(values, Iterable):
        raise TypeError(
            "efficiencies must be numbers, a mapping of name to number, or a model with "
            "efficiency_layers, as build_efficiency_model() and capture() return, got "
            f"{type(efficiencies).__name__}"
        )
    return values
