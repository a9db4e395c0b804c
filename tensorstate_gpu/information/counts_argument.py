"""Checks of weights as an argument: counts, probabilities, or an object that has counts."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import positive_integer, unmasked
from tensorstate_gpu._arrays.array_types import Weights
from tensorstate_gpu._arrays.host_arrays import host_array, native_array


def is_layer(value: object) -> bool:
    """Return whether this has counts to be asked for. A tensor of torch has histogram(), too."""
    return all(callable(getattr(value, name, None)) for name in ("counts", "histogram"))


def _is_by_group(value: object) -> bool:
    """Return whether these are histograms by group, which have one of all groups together."""
    return all(callable(getattr(value, name, None)) for name in ("together", "group_sums"))


def weights(counts: Weights, argument: str) -> NDArray[Any]:
    """Return finite weights >= 0 with a positive sum, (states,), from an array or ``.counts``.

    The result is a NumPy array, or a CuPy array of the same memory if the weights are on a GPU.
    """
    attribute = getattr(counts, "counts", None)
    for is_one, method in ((is_layer, "histogram"), (_is_by_group, "together")):
        if is_one(counts):
            raise TypeError(f"{argument} is a {type(counts).__name__}: pass its {method}()")
    if isinstance(counts, Mapping):
        advice = "choose a layer" if hasattr(counts, "efficiency_layers") else "pass its values()"
        raise TypeError(f"{argument} is a {type(counts).__name__}: {advice}")
    values = native_array(
        counts if attribute is None or callable(attribute) else attribute, argument
    )
    advice = ": count_states() counts packed states" if values.ndim == 2 else ""
    if values.dtype.kind not in "iuf":
        raise TypeError(f"{argument} must hold real numbers, got {values.dtype}{advice}")
    if values.ndim != 1:
        raise ValueError(f"{argument} must have one dimension (states,), got {values.ndim}{advice}")
    if values.size == 0:
        raise ValueError(f"{argument} is empty; at least one positive weight is needed")
    low, high = float(values.min()), float(values.max())  # NaN makes both NaN
    if not 0 <= low <= high < math.inf:
        invalid = low if not low >= 0 else high
        raise ValueError(f"{argument} must be finite and not negative, got {invalid}")
    if high == 0:
        raise ValueError(f"{argument} holds only zeros; at least one positive weight is needed")
    return values


def agreed_neurons(counts: object, neurons: int | None) -> int | None:
    """Return the neurons that are given, or those that counts know.

    Raises TypeError or ValueError if those given are no positive integer, or not those of counts.
    """
    known: int | None = getattr(counts, "neurons", None)
    if neurons is None:
        return known
    given = positive_integer(neurons, "neurons")
    if known not in (None, given):
        raise ValueError(f"counts has {known} neurons, got neurons={given}")
    return given


def count_table(values: object, argument: str, accepted: str) -> NDArray[np.int64]:
    """Return a table of counts, of two dimensions, from an array of integers >= 0.

    Raises TypeError for anything else, with what is ``accepted``, ValueError as weights() does, and
    OverflowError if the sum is no int64.
    """
    for part in values if isinstance(values, (list, tuple)) else ():
        unmasked(part, argument)
    if advice := _advice(values, argument):
        raise TypeError(f"{argument} must {accepted}, got {type(values).__name__}: {advice}")
    table = host_array(values, argument)
    if table.ndim != 2 or table.dtype.kind not in "iu":
        kind = type(values).__name__
        got = kind if table.dtype == object else f"{table.dtype} of shape {table.shape}"
        raise TypeError(f"{argument} must {accepted}, got {got}")
    if table.dtype == np.uint8:  # measured as counts, packed states would give plausible numbers
        raise TypeError(
            f"{argument} must {accepted}, got uint8, as packed states are: count them first; "
            "counts may be integers of any other type"
        )
    weights(table.ravel(), argument)
    if float(table.sum(dtype=np.float64)) >= 2.0**63:
        raise OverflowError(f"the counts of {argument} add up to more than int64 holds")
    return table.astype(np.int64)


def _advice(values: object, argument: str) -> str | None:
    """Return what has a table, if something was given that could make one."""
    if is_layer(values):
        needed = "counts_by()" if argument == "by_label" else "grouped()"
        return f"a layer has {needed}"
    if argument == "groups" and hasattr(values, "entropy"):
        return (
            "bare counts do not tell inputs apart, so their error is not known: use estimate() of "
            "a capture point, or its grouped()"
        )
    return None
