"""Estimate: a measure of the source of a sample, and how far it can be trusted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal, get_args

from tensorstate_gpu._html import html_table
from tensorstate_gpu.information.group_table import SampledInstances
from tensorstate_gpu.information.replicates import Changes, Measure, Replicates, combined

Quality = Literal["good", "rough", "bounds only"]
QUALITIES: tuple[Quality, ...] = get_args(Quality)

GOOD, ROUGH = 0.95, 0.9  # the least coverages
_CUT = "cut to what the neurons allow"


def quality_of(coverage: float) -> Quality:
    """Return what a coverage allows."""
    return "good" if coverage >= GOOD else "rough" if coverage >= ROUGH else "bounds only"


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Estimate:
    """A measure of the source of a sample, and how far it can be trusted. float() gives the value.

    So does a format: ``f"{estimate:.2f}"``.

    ``value``: by the estimator of Chao, Wang and Jost. ``is_cut``: whether it was more than the
    neurons allow, and is cut to that. Where there are bounds only, it may be outside of them: it
    takes rows for independent, and the bounds know of which instances they are.
    ``plugin``: the measure of the sample itself. ``plugin_of_half``: what half of the rows would
    show of it.
    ``lower``, ``upper``: between them the measure of the source is, with 95 % confidence each; and
    ``how`` they are known: by the "interval", by "chao-wang-jost" minus its error, by "no
    coincidences" between instances, by the number of "neurons", by the "entropies of the neurons"
    or a "dependence tree" of them; or "nothing".
    ``coverage``: the share of rows whose state also occurs in another group of instances.
    ``least_coverage``: the least that so many instances of the source may have on average, with
    95 % confidence.
    ``rows``, ``instances``: the size of the sample.
    ``design_effect``: how much more the plug-in varies than if rows were independent; None if that
    is not known. Rows divided by it are the independent rows that say as much.
    ``in_bits``: whether the measure is one of bits, and not a ratio.

    Examples
    --------
    >>> import numpy as np
    >>> from tensorstate_gpu import CapturePoint
    >>> layer = CapturePoint("layer")
    >>> layer.declare(neurons=2)
    >>> layer.append(np.array([[0], [1], [2], [3]] * 20, np.uint8), instances=80)
    >>> found = layer.estimate()
    >>> f"{found:.2f} bits, {found.lower:.2f} to {found.upper:.2f}: {found.quality}"
    '2.00 bits, 1.95 to 2.00: good'
    """

    __module__ = "tensorstate_gpu.information"

    value: float
    plugin: float
    plugin_of_half: float
    lower: float
    upper: float
    how: tuple[str, str]
    coverage: float
    least_coverage: float
    rows: int
    design_effect: float | None
    is_cut: bool
    in_bits: bool = dataclasses.field(repr=False)
    # How far the source may be from the value because of its bias: below it, and above.
    bias: tuple[float, float] = dataclasses.field(repr=False)
    replicates: Replicates = dataclasses.field(repr=False)
    sample: SampledInstances = dataclasses.field(repr=False)

    def __float__(self) -> float:
        return self.value

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else str(self)

    @property
    def instances(self) -> int:
        """How many independent instances the sample has: inputs, or units where they are known."""
        return self.sample.number

    @property
    def slope(self) -> float:
        """What the plug-in has gained by the second half of the rows.

        In bits of entropy, 1 says that it measures the sample, 0 that it has settled.
        """
        return self.plugin - self.plugin_of_half

    @property
    def standard_error(self) -> float | None:
        """Of the value, by leaving out each group. None if there are too few instances."""
        return self.replicates.standard_error

    @property
    def quality(self) -> Quality:
        """ "good" from a coverage of 0.95 on, "rough" from 0.9 on; else "bounds only".

        Also "bounds only" if there are too few instances for a standard error, or for 95 %
        confidence that the coverage is 0.9 or more.
        """
        if self.standard_error is None or self.least_coverage < ROUGH:
            return "bounds only"
        return quality_of(self.coverage)

    @property
    def confidence_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the measure of the source; None if there are bounds only."""
        return None if self.quality == "bounds only" else (self.lower, self.upper)

    @property
    def _unit(self) -> str:
        return " bits" if self.in_bits else ""

    def __repr__(self) -> str:
        error = self.standard_error
        margin = "" if error is None else f" +- {error:.2g}"
        cut = f" ({_CUT})" if self.is_cut else ""
        word = "bounds" if self.confidence_interval is None else "95 % interval"
        return (
            f"Estimate({self.value:.4g}{margin}{self._unit}{cut}, "
            f"{word} {self.lower:.4g} to {self.upper:.4g}, {self.quality}, "
            f"coverage {100 * self.coverage:.1f} %, {self.instances:,} "
            f"instance{'' if self.instances == 1 else 's'})"
        )

    def _repr_html_(self) -> str:
        error = self.standard_error
        known = self.confidence_interval is not None
        shown = {
            "value": f"{self.value:.4g}{self._unit}" + (f" ({_CUT})" if self.is_cut else ""),
            "standard error": "-" if error is None else f"{error:.2g}",
            "95 % interval" if known else "bounds": f"{self.lower:.4g} - {self.upper:.4g}",
            "quality": self.quality,
            "coverage": f"{100 * self.coverage:.1f} %",
            "instances": f"{self.instances:,}",
        }
        return html_table(shown, [tuple(shown.values())])

    def as_dict(self) -> dict[str, object]:
        """Return all of it but for what only computes with it, ready for JSON.

        A bound that is infinite, which JSON has not, is None.
        """
        shown = [field.name for field in dataclasses.fields(self) if field.repr]
        more = ("instances", "slope", "standard_error", "quality", "confidence_interval")
        values = {name: getattr(self, name) for name in (*shown, *more)}
        return {
            name: None if value in (-math.inf, math.inf) else value
            for name, value in values.items()
        }


def with_interval(estimate: Estimate) -> Estimate:
    """Return an estimate that has bounds, with the 95 % interval in their place if there is one."""
    margin = estimate.replicates.margin
    if margin is None or estimate.quality == "bounds only":
        return estimate
    below, above = estimate.bias
    low, high = estimate.value - margin - below, estimate.value + margin + above
    lower, upper = max(low, estimate.lower), min(high, estimate.upper)
    how = ("interval", "interval" if upper == high else estimate.how[1])
    return dataclasses.replace(estimate, lower=lower, upper=upper, how=how)


def function_of(
    parts: Sequence[Estimate], measure: Measure, changes: Changes | None = None
) -> Estimate:
    """Return the estimate of a ratio that grows with each of several other measures.

    All are of the same instances. ``changes``: as for combined().
    """
    values = [part.value for part in parts]
    value = measure(values)
    below = measure([max(0.0, part.value - part.bias[0]) for part in parts])
    above = measure([part.value + part.bias[1] for part in parts])
    effects = [part.design_effect for part in parts if part.design_effect is not None]
    ways = ([part.how[side] for part in parts] for side in (0, 1))
    lower_how, upper_how = (", ".join(dict.fromkeys(way)) for way in ways)
    return with_interval(
        Estimate(
            value=value,
            plugin=measure([part.plugin for part in parts]),
            plugin_of_half=measure([part.plugin_of_half for part in parts]),
            lower=measure([part.lower for part in parts]),
            upper=measure([part.upper for part in parts]),
            how=(lower_how, upper_how),
            coverage=min(part.coverage for part in parts),
            least_coverage=min(part.least_coverage for part in parts),
            rows=sum(part.rows for part in parts),
            design_effect=max(effects, default=None),
            is_cut=any(part.is_cut for part in parts),
            in_bits=False,
            bias=(value - below, above - value),
            replicates=combined([part.replicates for part in parts], values, measure, changes),
            sample=parts[0].sample,
        )
    )
