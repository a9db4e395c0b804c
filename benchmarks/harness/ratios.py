"""Ratios of the times of one case's contenders: what the benchmarks are about."""

import statistics
from typing import Any

Seconds = list[float | None]
Spread = tuple[float, float, float]  # median, and the bounds of the middle half


def ratios(case: dict[str, Any], name: str, to: str = "ours") -> Spread:
    """How many times one contender's time is another's, in the rounds in which both ran."""
    pairs = zip(case["seconds"][name], case["seconds"][to], strict=True)
    return spread([one / other for one, other in pairs if one is not None and other is not None])


def rates(case: dict[str, Any]) -> Spread:
    """Amount per second of ours."""
    return spread([case["amount"] / seconds for seconds in case["seconds"]["ours"]])


def spread(values: list[float]) -> Spread:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def rate(case: dict[str, Any], name: str = "ours") -> float:
    """Amount per second, by the median time."""
    times = [seconds for seconds in case["seconds"][name] if seconds is not None]
    return float(case["amount"] / statistics.median(times))


def fastest(case: dict[str, Any], kind: str) -> str | None:
    """The fastest contender of a kind ("rival" or "limit"), by its median time."""
    names = [name for name in case["seconds"] if name.startswith(f"{kind}: ")]
    return max(names, key=lambda name: rate(case, name), default=None)
