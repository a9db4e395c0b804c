"""What counts by group cost: time and memory, beside counts without groups.

``python -m benchmarks.studies.group_costs`` prints a table. Batches of 200 inputs are appended to
capture points that keep counts, with and without groups, in turns; each number is the lower
quartile of many batches, so that other programs disturb it little. Then it compares reading: the
histogram and the grouped counts of the same rows.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import tensorstate_gpu as ts

BATCHES, INPUTS = 40, 200
LAYERS = (  # neurons, positions of an input, prototypes, share of neurons that a row flips
    (20, 576, 40, 0.01),
    (64, 196, 40, 0.02),
    (512, 49, 40, 0.02),
    (512, 1, 40, 0.2),
)


def rows_of(neurons: int, positions: int, prototypes: int, flips: float) -> list[NDArray[np.uint8]]:
    """The packed rows of all batches."""
    rng = np.random.default_rng(0)
    base = rng.random((prototypes, neurons)) < 0.2
    batches = []
    for _ in range(BATCHES):
        kinds = rng.integers(0, prototypes, INPUTS * positions)
        bits = base[kinds] ^ (rng.random((len(kinds), neurons)) < flips)
        batches.append(np.packbits(bits, axis=1, bitorder="little"))
    return batches


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measured(layer: tuple[int, int, int, float]) -> list[str]:
    """A row of the table."""
    batches = rows_of(*layer)
    points = [ts.CapturePoint("layer", keep="counts", groups=groups) for groups in (None, 32)]
    kept = ts.CapturePoint("layer")
    for point in (*points, kept):
        point.declare(layer[0], 1)
    times: list[list[float]] = [[], []]
    for batch in batches:
        for point, own in zip(points, times, strict=True):
            own.append(seconds(lambda point=point, batch=batch: point.append(batch, INPUTS)))
        kept.append(batch, INPUTS)
    per_row = [1e9 * statistics.quantiles(own)[0] / len(batches[0]) for own in times]
    distinct = len(points[0].histogram()), sum(map(len, points[1].grouped().parts))
    reading = seconds(kept.histogram), seconds(kept.grouped), seconds(kept.estimate)
    rows = kept.state_count
    return [
        f"{layer[0]}, {layer[1]} positions",
        f"{rows:,}",
        *(f"{each:.1f} ns" for each in per_row),
        *(f"{each:,}" for each in distinct),
        *(f"{1e9 * each / rows:.0f} ns" for each in reading[:2]),
        f"{1000 * reading[2]:.0f} ms",
    ]


HEADINGS = [
    *("neurons", "rows", "counting a row", "by group", "distinct", "by group"),
    *("reading a row", "by group", "estimate"),
]


def main() -> None:
    measured((8, 10, 4, 0.1))  # compiles
    measured((80, 10, 4, 0.1))
    table = [HEADINGS, ["---"] * len(HEADINGS), *map(measured, LAYERS)]
    print("\n".join(f"| {' | '.join(row)} |" for row in table))


if __name__ == "__main__":
    main()
