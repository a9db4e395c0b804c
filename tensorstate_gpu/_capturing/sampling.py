"""Which inputs or rows of a batch are captured where not all are: a function of the step alone."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.array_types import NativeArray
from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._layers.batches import (
    Batches,
    is_unassigned,
    ragged,
    sizes_of,
    totals,
    unassigned,
)

_ODD = 2_654_435_761  # of Knuth's multiplicative hash, of which the highest bits count


# Phases. "test" is that of the tests of a trainer; others are those of during() as well.
TRAIN, EVAL, TEST = "train", "eval", "test"


class Sampler(Protocol):
    """Says what is to be captured, and takes it."""

    @property
    def phase(self) -> str:
        """The phase of a pass that runs now."""

    def during(self, phase: str) -> AbstractContextManager[None]:
        """Let all that is recorded inside a ``with`` block be of a phase."""

    @property
    def step(self) -> int:
        """The number of the step."""

    def wants_now(self) -> bool:
        """Return whether the pass that runs is captured."""

    def room(self, name: str) -> int | None:
        """Return how many more states of a layer are asked for; None for all."""

    def pass_over(self, name: str, states: int) -> None:
        """Note states that are not asked for, beside those of a layer that were recorded last."""

    def record(self, name: str, packed: NativeArray, neurons: int, batches: Batches) -> None:
        """Take packed rows (states, bytes) of a layer, and whose they are."""


class Switch(Protocol):
    """Capture points at a model that a sampler has them leave while it asks for nothing."""

    @property
    def points(self) -> Sequence[CapturePoint]:
        """The capture points, with those of later calls that were made so far."""

    def in_training(self) -> bool:
        """Return whether the model is in training mode."""

    def is_model_alive(self) -> bool:
        """Return whether the model still exists."""

    def replaced(self) -> Sequence[str]:
        """Return the capture points of layers that are no part of the model any more."""

    def missed_passes(self) -> int:
        """Return how many passes in evaluation mode ran unnoticed in compiled code."""

    def failed_passes(self) -> int:
        """Return how many passes have failed so far while the capture points were at the model."""

    def turn(self, on: bool) -> None:
        """Attach the capture points, or let them leave the model."""

    def drain(self) -> None:
        """Give the sampler what has been captured, and still waits on its device."""

    def check_complete(self) -> None:
        """Raise RowsLost if something was captured that could not be kept."""

    def forget_lost(self, phase: str | None) -> None:
        """Start over after that, in a phase or in all."""

    def close(self) -> None:
        """Leave the model for good."""


def whole_inputs(sizes: Sequence[int] | NDArray[np.int64], room: int, step: int) -> range | None:
    """Return consecutive inputs that fit: as many as do, from one that the step decides.

    ``sizes``: rows of each input. None if not even one fits; or if sizes differ: of these, mostly
    short inputs would fit, and few rows of long ones would ever be taken.

    >>> whole_inputs([2, 2, 2, 2], 4, step=0), whole_inputs([2, 2, 2, 2], 4, step=1)
    (range(0, 2), range(1, 3))
    >>> whole_inputs([5, 5], 4, step=0)
    >>> whole_inputs([1, 2], 2, step=0)
    """
    each = np.asarray(sizes, np.int64)
    if not len(each) or (each != each[0]).any() or not 0 < each[0] <= room:
        return None
    fitting = min(len(each), room // int(each[0]))
    start = _place(step, len(each) - fitting + 1)
    return range(start, start + fitting)


def sampled(batches: Batches, room: int, step: int) -> tuple[NDArray[np.bool_], Batches]:
    """Return of each row whether it is one of ``room`` that the step decides, and whose those are.

    Those of whole inputs as long as they fit, else evenly spaced ones. An input of which no row is
    taken does not count: it is no evidence of anything. ``batches``: more rows than that.

    >>> sampled(((3, 2),), 4, step=0)[0].tolist(), sampled(((3, 2),), 4, step=0)[1]
    ([True, True, True, True, False, False], ((2, 2),))
    """
    if any(map(is_unassigned, batches)):
        instances, rows, _ = totals(batches)
        kept = np.zeros(rows, np.bool_)
        kept[spaced_rows(rows, room, step)] = True
        return kept, unassigned(room, instances or None)
    sizes = sizes_of(batches)
    of_input = np.repeat(np.arange(len(sizes)), sizes)
    inputs = whole_inputs(sizes, room, step)
    if inputs is not None:
        kept = (inputs.start <= of_input) & (of_input < inputs.stop)
        return kept, ragged(sizes[inputs.start : inputs.stop].tolist())
    kept = np.zeros(len(of_input), np.bool_)
    kept[spaced_rows(len(kept), room, step)] = True
    shown = np.bincount(of_input[kept], minlength=len(sizes))
    return kept, ragged(shown[shown > 0].tolist())


def spaced_rows(rows: int, room: int, step: int) -> NDArray[np.int64]:
    """Return the numbers of ``room`` evenly spaced rows, of which the step decides the first.

    >>> spaced_rows(10, 3, step=0)
    array([0, 3, 6])
    """
    return (np.arange(room) * rows + _place(step, rows)) // max(room, 1)


def _place(step: int, among: int) -> int:
    return ((step * _ODD % 2**32) * among) >> 32
