"""Entropy, efficiency and aIQ: pure functions of counts. Entropies are in bits.

Everything is computed from weights relative to the largest one, w = c / max(c), with S = sum of w.
The entropy of Rényi (1961) then splits into two terms that are never negative,

    H_alpha = log2(S) + log2(T / S) / (1 - alpha),        T = sum of w ** alpha,

so nothing cancels, and of a uniform histogram (T = S) the exact log2(S) is left.
"""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import non_negative, positive_integer
from tensorstate_gpu._arguments import order as check_order
from tensorstate_gpu._arguments import weights as check_weights

_CHUNK = 1 << 16  # weights at a time: the temporaries stay in the cache, whatever the histogram
_NEAR_ONE = 0.5  # |alpha - 1| below which 1 / (1 - alpha) would magnify rounding errors


def entropy(counts: Any, alpha: float = 1.0) -> float:
    """Rényi entropy of order ``alpha``, in bits.

    Order 1 is Shannon's entropy, 0 Hartley's (log2 of the number of states that occur), infinity
    the min-entropy (-log2 of the most frequent state's share).

    Parameters
    ----------
    counts : array_like of shape (states,), or an object with such an array as ``.counts``
        How often each state occurred, or any finite non-negative weights with a positive sum; they
        need not sum to 1. Arrays and tensors, sequences, a StateCounts. Where they lie on a GPU
        the sums are taken there.
    alpha : float
        Order, from 0 to infinity.

    Returns
    -------
    float
        Bits, from 0 to log2(states). Exactly k for a uniform histogram of 2**k states.

    Raises
    ------
    TypeError, ValueError
        ``counts`` does not hold real numbers; is not one-dimensional, is empty, or holds negative,
        NaN or infinite weights or zeros only; ``alpha`` is no number, negative or NaN.

    Notes
    -----
    Rényi, "On measures of entropy and information" (1961), equation 1.21; the limit alpha = 1 is
    Shannon, "A mathematical theory of communication" (1948), section 6.

    Examples
    --------
    >>> entropy([1, 1, 1, 1])
    2.0
    >>> entropy([0.5, 0.25, 0.25])
    1.5
    >>> entropy([3, 1, 0], alpha=0), entropy([2, 1, 1], alpha=math.inf)
    (1.0, 1.0)
    """
    order = check_order(alpha, "alpha")
    weights = check_weights(counts, "counts")
    if order == 0:
        return math.log2(int(np.count_nonzero(weights)))
    top = int(weights.argmax())
    scale = float(weights[top])

    def total(term: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]) -> float:
        return math.fsum(float(term(*pair).sum()) for pair in _relative(weights, top, scale))

    # Underflow to 0 is the right limit here, whatever the caller set with np.seterr.
    with np.errstate(under="ignore", over="ignore"):
        rest = total(lambda w, _: w)
        return _log2_1p(rest) + _excess(total, rest, order)


def _excess(total: Callable[..., float], rest: float, order: float) -> float:
    """log2(T / S) / (1 - alpha), where S = 1 + rest: the weight left out is the largest, 1."""
    if math.isinf(order):
        return 0.0
    if order == 1:
        return -total(lambda w, log: w * log) / (1 + rest) / math.log(2)
    if abs(order - 1) >= _NEAR_ONE:
        powers = total(lambda _, log: np.exp(order * log))
        return (_log2_1p(powers) - _log2_1p(rest)) / (1 - order)
    # Weights below exp(-700) add nothing here, and the power of one must not become infinite.
    growth = total(lambda w, log: w * np.expm1((order - 1) * np.maximum(log, -700.0)))
    return math.log1p(growth / (1 + rest)) / (1 - order) / math.log(2)


def _relative(
    weights: NDArray[Any], top: int, scale: float
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Chunks of the positive weights but the largest: relative to it, and their natural log.

    The largest is left out because 1 + 1e-20 is 1: what a rare state adds would be lost.
    """
    for part in (weights[:top], weights[top + 1 :]):
        size = _CHUNK if isinstance(part, np.ndarray) else max(len(part), 1)  # all at once on a GPU
        for start in range(0, len(part), size):
            chunk = part[start : start + size].astype(np.float64)
            chunk = chunk[chunk > 0]
            ratio = chunk / scale
            if ratio.size and float(ratio.min()) < sys.float_info.min:  # the quotient lost bits
                yield ratio, np.log(chunk) - math.log(scale)
            elif ratio.size:
                yield ratio, np.log(ratio)


def _log2_1p(x: float) -> float:
    # math.log2 is exact at powers of two, log1p exact near 0.
    return math.log2(1 + x) if x >= 1 else math.log1p(x) / math.log(2)


def efficiency(
    counts: Any, neurons: int, alpha1: float = 1.0, alpha2: float | None = None
) -> float:
    """How much of its capacity a layer uses: H_alpha1 / neurons, or H_alpha1 / H_alpha2.

    Parameters
    ----------
    counts : array_like of shape (states,), or an object with such an array as ``.counts``
        As for `entropy`.
    neurons : int
        Neurons of the layer, > 0: the entropy in bits that it has at most.
    alpha1, alpha2 : float
        Orders of the entropies. Without ``alpha2`` the entropy is divided by ``neurons``.

    Returns
    -------
    float
        A ratio without unit; zero over zero is 0.

    Raises
    ------
    TypeError, ValueError
        As for `entropy`; ``neurons`` is not an integer, or not positive.

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
    size = positive_integer(neurons, "neurons")
    used = entropy(counts, alpha1)
    available = size if alpha2 is None else entropy(counts, check_order(alpha2, "alpha2"))
    if available == 0:  # one state only; or shares so small that their logarithm vanished
        return 0.0 if used == 0 else math.inf
    return used / available


def ceiling(rows: int, neurons: int) -> float:
    """The largest efficiency that ``rows`` captured rows can show: min(1, log2(rows) / neurons).

    Rows that all differ have log2(rows) bits of entropy, and no others have more.

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
    return min(
        1.0, math.log2(positive_integer(rows, "rows")) / positive_integer(neurons, "neurons")
    )


def network_efficiency(efficiencies: Any) -> float:
    """Geometric mean of the efficiencies of a network's layers.

    Parameters
    ----------
    efficiencies : iterable of float, mapping of name to float, or model
        One number per layer; or anything with ``efficiency_layers``, such as a model that
        `build_efficiency_model` returned, or a run: its capture points are asked.

    Returns
    -------
    float
        A ratio without unit; 0 as soon as one layer has efficiency 0.

    Raises
    ------
    TypeError, ValueError
        Neither a model with capture points nor numbers; no layers; a negative, NaN or infinite
        efficiency; a capture point without rows.

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
    # Relative to the largest: the mean of equal values is that very value.
    top = max(values)
    mean = math.fsum(math.log2(v) - math.log2(top) for v in values) / len(values)
    return top * math.exp2(mean)


def aIQ(net_efficiency: float, accuracy: float, weight: float) -> float:
    """Artificial intelligence quotient: efficiency and accuracy of a network in one number.

    (net_efficiency * accuracy**weight) ** (1 / (weight + 1)): a geometric mean in which accuracy
    counts ``weight`` times.

    Parameters
    ----------
    net_efficiency, accuracy : float
        Ratios without unit, >= 0.
    weight : float
        Weight of the accuracy, > 0: the paper's beta.

    Returns
    -------
    float
        Without unit; from 0 to 1 when the other two are.

    Raises
    ------
    TypeError, ValueError
        An argument is not a real number; is negative, NaN or infinite; ``weight`` is not positive.

    Notes
    -----
    Schaub and Hotaling (https://arxiv.org/abs/2006.02909).

    Examples
    --------
    >>> aIQ(0.25, 1.0, weight=1)
    0.5
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


def _layer_values(efficiencies: Any) -> Iterable[Any]:
    points = getattr(efficiencies, "efficiency_layers", None)
    if points is not None:
        return [point.efficiency() for point in points]
    if isinstance(efficiencies, Mapping):
        return efficiencies.values()
    values = efficiencies.tolist() if hasattr(efficiencies, "tolist") else efficiencies
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise TypeError(
            "efficiencies must be numbers, a mapping of name to number, or a model with "
            f"efficiency_layers, got {type(efficiencies).__name__}"
        )
    return values
