"""Estimates of several layers together, and of the difference of two layers or networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tensorstate_gpu._arguments import flag, listed, share
from tensorstate_gpu.information.efficiencies import (
    aIQ,
    network_efficiencies_with,
    network_efficiency,
)
from tensorstate_gpu.information.estimated_measure import Estimate, function_of, with_interval
from tensorstate_gpu.information.replicates import combined, difference_of_independent


def estimate_network_efficiency(efficiencies: Iterable[Estimate]) -> Estimate:
    """Return the geometric mean of the efficiencies of a network's layers, with its error.

    Parameters
    ----------
    efficiencies : iterable of Estimate
        Of each layer, by `estimate` with the measure "efficiency".

    Returns
    -------
    Estimate
        Its coverage is the least of the layers'.

    Raises
    ------
    TypeError, ValueError
        If these are no Estimates, or those of entropies; if there are none; or if they are not of
        the same instances.

    Examples
    --------
    >>> import numpy as np
    >>> from tensorstate_gpu.information import estimate
    >>> groups = np.random.default_rng(0).multinomial(100, [0.5, 0.5], size=32)
    >>> layers = [estimate(groups, "efficiency", neurons) for neurons in (2, 8)]
    >>> [round(layer.value, 2) for layer in layers]
    [0.5, 0.13]
    >>> round(estimate_network_efficiency(layers).value, 2)
    0.25
    """
    parts = _ratios(efficiencies, "efficiencies")
    return function_of(
        parts,
        lambda values: network_efficiency(_not_negative(values)),
        lambda values, others: network_efficiencies_with(
            _not_negative(values), _not_negative(others)
        ),
    )


def _not_negative(values: Sequence[float]) -> list[float]:
    """Return what an efficiency counts as: a jackknife's, or a difference, may be below 0."""
    return [max(0.0, value) for value in values]


def estimate_aIQ(efficiency: Estimate, accuracy: float, weight: float) -> Estimate:
    """Return the artificial intelligence quotient, with the error of the network's efficiency.

    Parameters
    ----------
    efficiency : Estimate
        Of the network: `estimate_network_efficiency`.
    accuracy : float
        From 0 to 1, as the efficiency is. It counts as exact.
    weight : float
        As for `aIQ`.

    Returns
    -------
    Estimate

    Raises
    ------
    TypeError, ValueError
        If ``efficiency`` is no Estimate, or that of an entropy; if ``accuracy`` is not from 0 to 1;
        as for `aIQ`.

    Examples
    --------
    >>> import numpy as np
    >>> from tensorstate_gpu.information import estimate
    >>> groups = np.random.default_rng(0).multinomial(100, [0.5, 0.5], size=32)
    >>> network = estimate_network_efficiency([estimate(groups, "efficiency", neurons=2)])
    >>> round(estimate_aIQ(network, accuracy=0.9, weight=2).value, 2)
    0.74
    """
    quality = share(accuracy, "accuracy")
    return function_of(
        _ratios([efficiency], "efficiency"),
        lambda values: aIQ(max(0.0, values[0]), quality, weight),
    )


def estimate_difference(
    first: Estimate, second: Estimate, *, same_instances: bool = True
) -> Estimate:
    """Return how much more the first measure is than the second, with its error.

    By default both are of the same instances, so what is special about these instances cancels: the
    error is often much smaller than that of either.

    Parameters
    ----------
    first, second : Estimate
        Of two layers or networks that have seen the same instances.
    same_instances : bool
        False for two samples that don't depend on each other, such as the trials of two conditions,
        or the images of two classes: the squares of their errors add up.

    Returns
    -------
    Estimate
        With ``same_instances=False``, its rows and instances are those of both.

    Raises
    ------
    TypeError, ValueError
        If one is no Estimate, if one is in bits and the other a ratio, or if their instances are
        not the same, unless that is said; or if that is said of the same units. Instances without
        units are known by their numbers: the first hundred of one sample and of another look the
        same.

    Examples
    --------
    >>> import numpy as np
    >>> from tensorstate_gpu.information import estimate
    >>> groups = np.random.default_rng(0).multinomial(100, [0.5, 0.25, 0.25], size=32)
    >>> found = estimate_difference(estimate(groups), estimate(groups))
    >>> f"{found.value} +- {found.standard_error:.4f} bits"
    '0.0 +- 0.0012 bits'
    >>> others = np.random.default_rng(1).multinomial(90, [0.6, 0.2, 0.2], size=32)
    >>> estimate_difference(estimate(groups), estimate(others), same_instances=False).quality
    'good'
    """
    parts = _known_estimates([first, second], "first and second")
    one, other = parts
    if one.in_bits != other.in_bits:
        raise ValueError("first and second must both be in bits, or both be ratios")
    if flag(same_instances, "same_instances"):
        _check_same(parts, "first and second", "; same_instances=False is for independent samples")
        sample = one.sample
        replicates = combined([part.replicates for part in parts], (0.0, 0.0), _difference)
    else:
        _check_independent(one, other)
        sample = one.sample.beside(other.sample)
        replicates = difference_of_independent(one.replicates, other.replicates)
    effects = [part.design_effect for part in parts if part.design_effect is not None]
    return with_interval(
        Estimate(
            value=one.value - other.value,
            plugin=one.plugin - other.plugin,
            plugin_of_half=one.plugin_of_half - other.plugin_of_half,
            lower=one.lower - other.upper,
            upper=one.upper - other.lower,
            how=(f"{one.how[0]}, {other.how[1]}", f"{one.how[1]}, {other.how[0]}"),
            coverage=min(one.coverage, other.coverage),
            least_coverage=min(one.least_coverage, other.least_coverage),
            rows=one.rows + other.rows,
            design_effect=max(effects, default=None),
            is_cut=one.is_cut or other.is_cut,
            in_bits=one.in_bits,
            bias=(one.bias[0] + other.bias[1], one.bias[1] + other.bias[0]),
            replicates=replicates,
            sample=sample,
        )
    )


def _difference(values: Sequence[float]) -> float:
    return values[0] - values[1]


def _ratios(given: Iterable[Estimate], argument: str) -> list[Estimate]:
    """Return estimates of efficiencies of the same instances, at least one."""
    parts = _estimates(given, argument)
    if any(part.in_bits for part in parts):
        raise ValueError(f'{argument} must be Estimates of efficiencies: estimate("efficiency")')
    return parts


def _estimates(given: Iterable[Estimate], argument: str) -> list[Estimate]:
    """Return estimates of the same instances, at least one."""
    parts = _known_estimates(given, argument)
    _check_same(parts, argument)
    return parts


def _known_estimates(given: Iterable[Estimate], argument: str) -> list[Estimate]:
    """Return estimates, at least one."""
    parts = listed(given, argument, "Estimates")
    for part in parts:
        if not isinstance(part, Estimate):
            kind = type(part).__name__
            raise TypeError(f"{argument} must be Estimates, got {kind}{_makes_one(part)}")
    if not parts:
        raise ValueError(f"{argument} is empty; at least one Estimate is needed")
    return parts


def _makes_one(given: object) -> str:
    """Return what makes an Estimate of something else, if anything does."""
    if isinstance(given, Mapping):
        return ": choose a layer, whose estimate() makes one"
    if callable(getattr(given, "to_html", None)):
        return ": a layer of its run has estimate()"
    return ": its estimate() makes one" if callable(getattr(given, "estimate", None)) else ""


def _check_independent(one: Estimate, other: Estimate) -> None:
    """Raise ValueError if estimates that are said to be independent are known not to be."""
    if one is other or (one.sample.has_units and one.sample == other.sample):
        raise ValueError(
            "first and second are of the same units, so they depend on each other: leave out "
            "same_instances=False, or give other units other names"
        )


def _check_same(parts: Sequence[Estimate], argument: str, advice: str = "") -> None:
    """Raise ValueError unless all estimates are of the same instances."""
    if all(part.sample == parts[0].sample for part in parts):
        return
    numbers = {f"{part.instances:,}" for part in parts}
    got = f", got {' and '.join(sorted(numbers))}" if len(numbers) > 1 else ""
    raise ValueError(
        f"{argument} must be of the same instances, in the same groups{got}: their errors depend "
        f"on each other{advice}"
    )
