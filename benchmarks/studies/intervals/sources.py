"""Sources of states whose entropy is known exactly, with rows that depend on each other.

A source draws instances independently. Most are populations: a fixed number of instances, each with
its rows, of which an instance is drawn with replacement; the entropy of all rows together is then
the truth. If its instances have labels, the truth is what a state tells about the label.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.uint8]  # (instances, rows, bytes)
Ints = NDArray[np.integer]
POPULATION = 200_000  # instances
# Of 50 inputs, 8 of 100 samples have none of the 5 % with states of their own: then no bound holds.
ALIKE_SIZES = (100, 200, 500, 1000, 2000, 4000, 8000, 40_000)


class Sample(NamedTuple):
    """Instances, and the label of each if the source has labels.

    ``sizes``: the number of rows of each; ``rows`` are then (all rows, 1, bytes).
    """

    rows: Rows
    labels: Ints | None = None
    sizes: Ints | None = None


@dataclass(frozen=True)
class Source:
    """``draw``: returns so many instances. ``truth``: the entropy or mutual information in bits.

    ``rows``: of an instance, or their mean. ``frames``: instances in a row that belong together.
    ``sizes``: the numbers of instances that the study draws, if not those of the others.
    """

    name: str
    neurons: int
    rows: int
    truth: float
    draw: Callable[[int, np.random.Generator], Sample]
    frames: int = 1
    sizes: tuple[int, ...] = ()


def _packed(numbers: Ints, neurons: int) -> Rows:
    """Return the states with these numbers: neuron k fires if bit k is set."""
    width = -(-neurons // 8)
    words = np.ascontiguousarray(numbers, "<u4")[..., None]
    return words.view(np.uint8)[..., :width]


def population(name: str, neurons: int, numbers: Ints, labels: Ints | None = None) -> Source:
    """A source that draws from these instances: the numbers of their states, (instances, rows)."""
    truth = _entropy(numbers)
    if labels is not None:
        each = np.broadcast_to(labels[:, None], numbers.shape)
        truth += _entropy(labels) - _entropy(numbers + (each << neurons))

    def draw(instances: int, rng: np.random.Generator) -> Sample:
        chosen = rng.integers(0, len(numbers), instances)
        return Sample(_packed(numbers[chosen], neurons), None if labels is None else labels[chosen])

    return Source(name, neurons, numbers.shape[1], truth, draw)


def _entropy(numbers: Ints) -> float:
    shares = np.unique(numbers, return_counts=True)[1] / numbers.size
    return -float((shares * np.log2(shares)).sum())


def zipf(rows: int, states: int = 100_000) -> Source:
    """States with probabilities 1 / rank. An instance's rows repeat its own few states."""
    rng = np.random.default_rng(1)
    p = 1 / np.arange(1, states + 1)
    numbers = rng.choice(states, (POPULATION, max(1, rows // 5)), p=p / p.sum())
    chosen = rng.integers(0, numbers.shape[1], (POPULATION, rows))
    return population(
        f"Zipf, {rows} rows" if rows > 1 else "Zipf, independent rows",
        17,
        np.take_along_axis(numbers, chosen, 1),
    )


def falling(power: float, rows: int, own: int, frames: int = 1, states: int = 100_000) -> Source:
    """States with probabilities rank**-power. Frames that belong together show ``own`` of them."""
    p = 1 / np.arange(1, states + 1) ** power
    p /= p.sum()

    def draw(instances: int, rng: np.random.Generator) -> Sample:
        units = -(-instances // frames)
        numbers = rng.choice(states, (units, own), p=p)
        shown = np.take_along_axis(numbers, rng.integers(0, own, (units, frames * rows)), 1)
        return Sample(_packed(shown.reshape(-1, rows)[:instances], 17))

    each = f"clips of {frames} frames, " if frames > 1 else ""
    truth = -float((p * np.log2(p)).sum())
    return Source(f"{each}1 / rank^{power}, {rows} rows", 17, rows, truth, draw, frames)


def topics(rows: int = 25) -> Source:
    """Each instance is of a kind, and a kind has states of its own: as classes of images."""
    return population(f"kinds of instances, {rows} rows", 11, _of_kinds(rows)[0])


def about_kinds(rows: int = 25) -> Source:
    """What a state tells about the kind of the instance."""
    return population(f"about the kind, {rows} rows", 11, *_of_kinds(rows))


def clips(rows: int = 10, frames: int = 8) -> Source:
    """Clips of frames that are alike: in each frame, a tenth of the rows is from elsewhere."""
    rng = np.random.default_rng(5)
    numbers = np.repeat(_of_kinds(rows)[0][:, None], frames, axis=1)
    others = rng.permutation(numbers.ravel()).reshape(numbers.shape)
    numbers = np.where(rng.random(numbers.shape) < 0.1, others, numbers)
    whole = population("", 11, numbers.reshape(len(numbers), -1))

    def draw(instances: int, rng: np.random.Generator) -> Sample:
        drawn = whole.draw(-(-instances // frames), rng).rows
        return Sample(drawn.reshape(-1, rows, drawn.shape[-1])[:instances])

    name = f"clips of {frames} frames, {rows} rows each"
    return Source(name, 11, rows, whole.truth, draw, frames)


def _of_kinds(rows: int, kinds: int = 50, states: int = 2000) -> tuple[Ints, Ints]:
    """Return the states of instances, and their kinds."""
    rng = np.random.default_rng(2)
    weights = rng.gamma(0.03, size=(kinds, states))
    cumulated = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    kind = rng.integers(0, kinds, POPULATION // 4)
    places = rng.random((len(kind), rows))
    drawn = [np.searchsorted(cumulated[k], at) for k, at in zip(kind, places, strict=True)]
    return np.array(drawn), kind


def flipped(neurons: int = 16, prototypes: int = 40, flips: float = 0.03, rows: int = 16) -> Source:
    """Prototypes of which each row flips some neurons; half of an instance's rows are one row."""
    rng = np.random.default_rng(3)
    base = rng.integers(0, 1 << neurons, prototypes)
    chosen = base[rng.integers(0, prototypes, POPULATION // 4)]
    flip = (rng.random((len(chosen), rows, neurons)) < flips) @ (1 << np.arange(neurons))
    flip[:, : rows // 2] = flip[:, :1]
    return population(f"flipped prototypes, {rows} rows", neurons, chosen[:, None] ^ flip)


def uniform(states: int, rows: int) -> Source:
    """Equally likely states; all rows of an instance have the same."""

    def draw(instances: int, rng: np.random.Generator) -> Sample:
        numbers = rng.integers(0, states, (instances, 1)).repeat(rows, axis=1)
        return Sample(_packed(numbers, neurons))

    neurons = (states - 1).bit_length()
    name = f"{states:,} equal states, " + ("independent rows" if rows == 1 else f"{rows} rows")
    return Source(name, neurons, rows, math.log2(states), draw)


def rare(chance: float, rows: int = 10) -> Source:
    """Two states, one of them rare; all rows of an instance have the same."""

    def draw(instances: int, rng: np.random.Generator) -> Sample:
        return Sample(_packed((rng.random((instances, 1)) < chance).repeat(rows, axis=1), 4))

    truth = -sum(p * math.log2(p) for p in (chance, 1 - chance))
    return Source(f"a state of {100 * chance:.0f} %, {rows} rows", 4, rows, truth, draw)


def rare_kind(
    share: float, rows: int = 20, common: int = 4, own: int = 8, *, alike: bool = False
) -> Source:
    """A few instances have states of their own. Rows of any are independent, or all the same."""
    neurons = (common + own - 1).bit_length()
    p = np.repeat([(1 - share) / common, share / own], [common, own])

    def draw(instances: int, rng: np.random.Generator) -> Sample:
        is_rare = rng.random((instances, 1)) < share
        drawn = 1 if alike else rows
        shown = np.where(
            is_rare,
            rng.integers(common, common + own, (instances, drawn)),
            rng.integers(0, common, (instances, drawn)),
        )
        return Sample(_packed(shown.repeat(rows // drawn, axis=1), neurons))

    truth = -float((p * np.log2(p)).sum())
    if alike:
        name = f"{100 * share:.0f} % of the inputs have one of {own:,} states, {rows} equal rows"
        return Source(name, neurons, rows, truth, draw, sizes=ALIKE_SIZES)
    name = f"{100 * share:.1f} % of the inputs have {own:,} own states, {rows} rows"
    return Source(name, neurons, rows, truth, draw)


def texts(spread: float, median: float = 7.4, states: int = 4) -> Source:
    """Instances of different lengths, whose later rows have states of their own.

    ``spread``: the standard deviation of the logarithm of the length. A row of position p has one
    of some ``states`` of its own for floor(log2 p).
    """
    center, most = math.log(median), 1 << 17
    at_least = [
        math.erfc((math.log(p) - center) / (spread * math.sqrt(2))) / 2 for p in range(1, most)
    ]
    probable = np.array([1.0, *at_least])  # that a text has position p, for p from 1
    of_position = np.log2(np.arange(1, most + 1)).astype(int)
    shares = np.bincount(of_position, probable) / probable.sum()
    shares = shares[shares > 0]

    def draw(instances: int, rng: np.random.Generator) -> Sample:
        sizes = np.ceil(rng.lognormal(center, spread, instances)).astype(int)
        starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
        kinds = of_position[np.arange(len(starts)) - starts]
        numbers = kinds * states + rng.integers(0, states, len(kinds))
        return Sample(_packed(numbers[:, None], 8), sizes=sizes)

    truth = math.log2(states) - float((shares * np.log2(shares)).sum())
    mean = round(float(probable.sum()))
    return Source(f"texts of {mean} rows on average, spread {spread:.1f}", 8, mean, truth, draw)


def independent(neurons: int, chance: float) -> Source:
    """Independent neurons and rows."""
    own = -sum(p * math.log2(p) for p in (chance, 1 - chance))

    def draw(instances: int, rng: np.random.Generator) -> Sample:
        bits = rng.random((instances, 1, neurons)) < chance
        return Sample(np.packbits(bits, axis=2, bitorder="little"))

    return Source(f"{neurons} independent neurons", neurons, 1, neurons * own, draw)


def digits(neurons: int = 12) -> Source:
    """Handwritten digits under random filters, as a first convolution sees them."""
    return population(f"digits, {neurons} filters, 36 rows", neurons, _of_digits(neurons)[0])


def about_digits(neurons: int = 8) -> Source:
    """What a state at one position tells about the digit: much less than the whole image."""
    return population(f"about the digit, {neurons} filters, 36 rows", neurons, *_of_digits(neurons))


def _of_digits(neurons: int, size: int = 3, stride: int = 1) -> tuple[Ints, Ints]:
    """Return the states of images, and their digits."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = found.images / 16
    rng = np.random.default_rng(4)
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))
    windows = windows[:, ::stride, ::stride].reshape(len(images), -1, size * size)
    filters = rng.normal(size=(size * size, neurons))
    fires = windows @ filters > 0.5
    return fires @ (1 << np.arange(neurons)), found.target


def about_labels(name: str, shares: list[list[float]]) -> Source:
    """What a state tells about a label, by how often each label (row) has each state (column)."""
    table = np.array(shares) / np.sum(shares)
    rng = np.random.default_rng(6)
    chosen = rng.choice(table.size, POPULATION, p=table.ravel())
    labels, states = np.divmod(chosen, table.shape[1])
    neurons = max(4, int(table.shape[1] - 1).bit_length())
    return population(name, neurons, states[:, None], labels)


def all_sources() -> list[Source]:
    """Rows that are independent, that repeat within instances, and real ones."""
    return [
        digits(),
        topics(),
        clips(),
        flipped(),
        zipf(25),
        zipf(1),
        falling(1.5, rows=20, own=4),
        falling(2, rows=4, own=3, frames=25),
        rare(0.02),
        rare(0.1),
        rare_kind(0.005),
        rare_kind(0.05, 4, 50, 60_000, alike=True),
        texts(1.0),
        uniform(16, 1),
        uniform(1024, 4),
        uniform(1 << 24, 1),
        independent(10, 0.2),
        independent(20, 0.2),
        about_digits(),
        about_kinds(),
        about_labels("ten labels that states tell", np.eye(10).tolist()),
        about_labels("a hundred labels that states tell", np.eye(100).tolist()),
        about_labels("two labels, confused in 1 %", [[99, 1], [1, 99]]),
        about_labels("a label of 2 % with its own state", [[98, 0], [0, 2]]),
        about_labels("a state of 2 % that tells its label", [[50, 0], [48, 2]]),
    ]


def beyond_intervals() -> list[Source]:
    """Sources whose intervals do not hold: what few inputs have says too much of the truth.

    A rare kind of input has nearly all states there are; or a few texts have most of the rows.
    """
    return [rare_kind(0.01, own=1 << 16), texts(2.0)]
