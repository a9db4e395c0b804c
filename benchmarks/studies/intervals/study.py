"""How often 95 % intervals contain the truth, by coverage of the sample.

``python -m benchmarks.studies.intervals`` draws 300 samples of each size from each source, as far
as benchmarks/results/intervals.json lacks them, and adds what it finds to that file, within an hour
for all. Where some of the samples have an interval, but fewer than 30, it draws more until 30 have
one. ``--page`` writes the tables and the picture of docs/statistics.md from it.

The estimates are those of capture points, from states to the interval. Beside each interval, the
study says what the usual one would do: the same value, with an error as if rows were independent;
for clips, the interval without units=, as if their frames were.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tensorstate_gpu as ts
from benchmarks.studies.intervals.sources import (
    Ints,
    Rows,
    Source,
    all_sources,
    beyond_intervals,
)
from tensorstate_gpu._layers.batches import ragged
from tensorstate_gpu.information import Estimate, estimate_mutual_information

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "benchmarks/results/intervals.json"
SAMPLES, SEED = 300, 16
LEAST_PRINTED = 30  # samples with an interval, from which on a share of them says something
SIZES = (50, 100, 200, 500, 2000, 8000, 40_000)  # instances
ROWS = 300_000  # of a sample at most


@dataclass(frozen=True)
class Cell:
    """What samples of one size from one source gave.

    Shares of the samples: ``printed``: with an interval; ``held``: of these, whose interval
    contains the truth; ``rows_held``: of these, for which the usual interval does.
    ``above_lower``, ``below_upper``: for which the truth is on the right side of a bound. ``bias``,
    ``width``: means, in bits.
    """

    source: str
    rows: int
    instances: int
    truth: float
    samples: int
    coverage: float
    printed: float
    held: float | None
    rows_held: float | None
    above_lower: float
    below_upper: float
    bias: float
    width: float | None
    design_effect: float


@dataclass(frozen=True)
class Limit:
    """What samples gave whose intervals do not hold.

    ``printed``: of how many samples there is an interval. Shares of these: ``held``: whose interval
    contains the truth; ``held_with_more``: whose would, if a kind of input that the sample lacks
    could have all states that there can be.
    """

    source: str
    instances: int
    truth: float
    samples: int
    printed: int
    held: float | None
    held_with_more: float | None


def limit(source: Source, instances: int, samples: int, seed: int) -> Limit:
    """Draw samples, and say how often intervals held, and would if they reached further up."""
    rngs = (np.random.default_rng((seed, instances, number)) for number in range(samples))
    found = [estimated(source, instances, rng)[0] for rng in rngs]
    shown = [one for one in found if one.confidence_interval is not None]
    held = [one.lower <= source.truth <= one.upper for one in shown]
    more = [3 / instances * (source.neurons - one.value) for one in shown]
    with_more = [
        one.lower <= source.truth <= one.upper + added
        for one, added in zip(shown, more, strict=True)
    ]
    return Limit(
        source.name,
        instances,
        source.truth,
        samples,
        len(shown),
        _mean(held) if shown else None,
        _mean(with_more) if shown else None,
    )


def estimated(source: Source, instances: int, rng: np.random.Generator) -> tuple[Estimate, bool]:
    """The estimate of a sample, and whether an interval for independent rows holds the truth."""
    rows, labels, sizes = source.draw(instances, rng)
    if labels is not None:
        return estimated_information(source, rows, labels)
    if source.frames > 1:
        units = np.arange(instances) // source.frames
        alone = captured(source, rows).estimate()
        holds = alone.lower <= source.truth <= alone.upper
        return captured(source, rows, units).estimate(), holds
    point = captured(source, rows, sizes=sizes)
    found, p = point.estimate(), point.counts() / point.state_count
    variance = max(0.0, float((p * np.log2(p) ** 2).sum()) - point.entropy() ** 2)
    return found, abs(found.value - source.truth) <= 1.96 * math.sqrt(variance / point.state_count)


def estimated_information(source: Source, rows: Rows, labels: Ints) -> tuple[Estimate, bool]:
    """What states tell about labels, with an error as the delta method has it for independent rows.

    The pointwise information of a row varies; the variance of its mean is that by the rows.
    """
    point = captured(source, rows, labels=labels)
    found = estimate_mutual_information(point.grouped_by())
    joint, states = list(point.counts_by().values()), point.histogram()
    told, times = [], []
    for of_label in joint:
        own, all_ = of_label.aligned_counts(states)
        own, all_ = own[own > 0], all_[own > 0]
        told.append(np.log2(own * (states.total / of_label.total) / all_))
        times.append(own)
    each, weights = np.concatenate(told), np.concatenate(times) / states.total
    variance = float((weights * each**2).sum() - (weights * each).sum() ** 2)
    return found, abs(found.value - source.truth) <= 1.96 * math.sqrt(variance / states.total)


def captured(
    source: Source,
    rows: Rows,
    units: Ints | None = None,
    labels: Ints | None = None,
    sizes: Ints | None = None,
) -> ts.CapturePoint:
    """A capture point with rows (instances, rows, bytes), or (rows, 1, bytes) of such sizes."""
    point = ts.CapturePoint(source.name)
    packed = np.ascontiguousarray(rows.reshape(-1, rows.shape[-1]))
    if sizes is not None:
        point.record(packed, source.neurons, 1, ragged(sizes.tolist()))
        return point
    point.declare(source.neurons, 1)
    point.append(packed, len(rows), labels, units)
    return point


def cell(source: Source, instances: int, samples: int, seed: int, least: int = 0) -> Cell:
    """Draw samples, and say how often bounds and intervals held.

    Where some have an interval, but fewer than ``least``, as many samples again, until there are.
    """
    drawn: list[tuple[Estimate, bool]] = []
    printed: list[tuple[Estimate, bool]] = []
    while not drawn or 0 < len(printed) < least:
        for number in range(len(drawn), len(drawn) + samples):
            drawn.append(
                estimated(source, instances, np.random.default_rng((seed, instances, number)))
            )
        printed = [one for one in drawn if one[0].confidence_interval is not None]
    truth, found = source.truth, [one for one, _ in drawn]
    intervals = [one.confidence_interval for one, _ in printed]
    effects = [one.design_effect for one in found if one.design_effect is not None]
    return Cell(
        source.name,
        source.rows,
        instances,
        truth,
        len(drawn),
        _mean([one.coverage for one in found]),
        len(printed) / len(drawn),
        _mean([low <= truth <= high for low, high in intervals]) if printed else None,
        _mean([holds for _, holds in printed]) if printed else None,
        _mean([one.lower <= truth for one in found]),
        _mean([truth <= one.upper for one in found]),
        _mean([one.value - truth for one in found]),
        _mean([high - low for low, high in intervals]) if printed else None,
        _mean(effects) if effects else 0.0,
    )


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 5)


def sizes_of(source: Source) -> list[int]:
    """The numbers of instances that a source is sampled with."""
    sizes = source.sizes or SIZES
    return [instances for instances in sizes if instances * source.rows <= ROWS]


def draw(found: dict[str, list[Any]]) -> None:
    """Measure what has not been found yet, and add it."""
    _draw(found, "cells", all_sources(), lambda *of: cell(*of, SAMPLES, SEED, LEAST_PRINTED))
    _draw(found, "limits", beyond_intervals(), lambda *of: limit(*of, SAMPLES, SEED))


def _draw(
    found: dict[str, list[Any]],
    kind: str,
    sources: Sequence[Source],
    measure: Callable[[Source, int], Cell | Limit],
) -> None:
    """Measure the sizes of sources that are not found yet, and write each to the file."""
    known = found.setdefault(kind, [])
    done = {(one["source"], one["instances"]) for one in known}
    order = [source.name for source in sources]
    for source in sources:
        for instances in sizes_of(source):
            if (source.name, instances) not in done:
                new = measure(source, instances)
                print(new, flush=True)
                known.append(asdict(new))
                known.sort(key=lambda one: (order.index(one["source"]), one["instances"]))
                RESULTS.write_text(json.dumps(found, indent=1) + "\n")
