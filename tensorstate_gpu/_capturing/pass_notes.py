"""PassNotes: labels, units and masks of the inputs of a pass, from ``run.labels(...)``."""

import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.host_arrays import host_array
from tensorstate_gpu._arrays.label_arrays import validated_labels
from tensorstate_gpu._layers.instance_notes import NOTHING, InstanceNotes
from tensorstate_gpu._warnings import warn_user

Mask = NDArray[np.bool_]  # (inputs, positions)


@dataclass(frozen=True, slots=True, eq=False)
class PassNotes:
    """Labels and units of the inputs of a pass, one for each, and which positions count.

    ``mask``: bool (inputs, positions). Each is None if nothing is said. ``task``: of asyncio, that
    is in their block.
    """

    labels: NDArray[np.generic] | None = None
    units: NDArray[np.generic] | None = None
    mask: Mask | None = None
    task: object = None

    @classmethod
    def from_arguments(cls, labels: object, units: object, mask: object) -> "PassNotes":
        """Check what a user gave. Raises TypeError or ValueError."""
        notes = cls(
            None if labels is None else validated_labels(labels),
            None if units is None else validated_labels(units, what="units"),
            None if mask is None else validated_mask(mask),
        )
        lengths = {len(given) for given in notes._given()}
        if len(lengths) > 1:
            raise ValueError(
                f"labels, units and mask must be for the same inputs, got {sorted(lengths)} of them"
            )
        return notes

    def _given(self) -> list[NDArray[np.generic]]:
        return [value for value in (self.labels, self.units, self.mask) if value is not None]

    @property
    def inputs(self) -> int | None:
        """Number of inputs; None if nothing is said."""
        return None if self is NO_NOTES else next((len(value) for value in self._given()), None)

    @property
    def of_instances(self) -> InstanceNotes:
        """What is kept for each instance."""
        return NOTHING if self is NO_NOTES else InstanceNotes(self.labels, self.units)

    def within(self, outer: "PassNotes") -> "PassNotes":
        """Return these notes, with those of an enclosing block where nothing is said."""
        missing = [name for name in ("labels", "units", "mask") if getattr(self, name) is None]
        return replace(self, **{name: getattr(outer, name) for name in missing})

    def in_task(self) -> "PassNotes":
        """Return these notes as those of a block in the task of asyncio that runs now, if any."""
        task = running_task()
        return self if task is None else replace(self, task=task)


def running_task() -> object:
    """Return the task of asyncio that this thread runs now; None if there is none."""
    asyncio = sys.modules.get("asyncio")
    try:
        return None if asyncio is None else asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return None


NO_NOTES = PassNotes()


def validated_mask(mask: object) -> Mask:
    """Return a mask as a NumPy array: True where a position of an input counts.

    Raises TypeError or ValueError for anything that is not (inputs, positions).
    """
    array = host_array(mask, "mask")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"mask must be of bools or numbers, got {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"mask must be 2-D, (inputs, positions), got {array.shape}")
    return array.astype(np.bool_)


def common_beginning(one: str, other: str) -> int:
    """Return how many characters two names have in common at their beginning.

    Of several model inputs, a mask is about the one whose name begins most like its own:
    decoder_attention_mask is about decoder_input_ids.
    """
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


class NoteScope(threading.local):
    """The notes that hold in this thread: those of a block, or of its next pass.

    ``next_pass``: when that is, as the thread counts its own passes; later its notes are over.
    ``of_tasks``: notes of the next pass of a task of asyncio, and when that is among its passes;
    None if there never were any.
    """

    notes: PassNotes = NO_NOTES
    of_next_pass: PassNotes = NO_NOTES
    next_pass = 0
    of_tasks: WeakKeyDictionary[object, tuple[PassNotes, int]] | None = None

    def set_next(self, notes: PassNotes, number: int) -> None:
        """Let notes hold for a pass of this thread; what they leave out is that of its block."""
        self.of_next_pass, self.next_pass = self._in_block(notes), number

    def set_next_of_task(self, notes: PassNotes, number: int) -> None:
        """The same for a pass of the task that runs now."""
        if self.of_tasks is None:
            self.of_tasks = WeakKeyDictionary()
        self.of_tasks[running_task()] = self._in_block(notes), number

    def _in_block(self, notes: PassNotes) -> PassNotes:
        outer = self.notes
        if outer is NO_NOTES or outer.task not in (None, running_task()):
            return notes
        return notes.within(outer)

    def next_notes(self) -> PassNotes:
        """Return the notes of the next pass, of the task that runs or of the thread."""
        if self.of_tasks is None or (task := running_task()) not in self.of_tasks:
            return self.of_next_pass
        return self.of_tasks[task][0]

    def begin(self, notes: PassNotes) -> None:
        """Let the notes of a block hold.

        Raises RuntimeError if another task of this thread is in a block: the passes of both would
        have the labels of the one that began last.
        """
        if self.notes.task not in (None, notes.task) and notes.task is not None:
            raise RuntimeError(
                "another asyncio task is inside `with run.labels(...)`, and passes of both would "
                "have the same labels: await nothing in such a block, or run it in a thread"
            )
        self.notes = notes
        self.forget_next()

    def forget_next(self) -> None:
        """Forget the notes of the next pass, but for those of tasks that do not run now."""
        self.of_next_pass = NO_NOTES
        if self.of_tasks is not None and (task := running_task()) in self.of_tasks:
            del self.of_tasks[task]


class Noted(Protocol):
    """A capture point."""

    @property
    def block_notes(self) -> PassNotes:
        """The notes of the block that this thread is in."""

    def begin_notes(self, notes: PassNotes) -> None:
        """Let notes hold in this thread."""


class NoteBlock:
    """What ``run.labels(y)`` returns: in a ``with`` statement, the notes hold for the block.

    ``points``: returns the capture points; more may appear in the block. ``needed``: whether the
    notes hold in the block only, so that they are lost if no ``with`` statement enters it.
    """

    def __init__(
        self, points: Callable[[], Iterable[Noted]], notes: PassNotes, *, needed: bool
    ) -> None:
        self._points, self._notes = points, notes
        self._before: dict[Noted, PassNotes] = {}
        self._lost = needed and notes.inputs is not None

    def __enter__(self) -> None:
        self._lost = False
        # Of all points first: those of several calls of a layer have theirs in common.
        self._before = {point: point.block_notes for point in self._points()}
        try:
            for point, before in self._before.items():
                point.begin_notes(self._notes.within(before).in_task())
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        outer = next(iter(self._before.values()), NO_NOTES)
        for point in self._points():
            point.begin_notes(self._before.get(point, outer))

    def __del__(self) -> None:
        # In a line without ``with``, Python deletes the block at once: the warning points there.
        if self._lost:
            warn_user(
                "on Keras, labels hold inside a block: use `with run.labels(y_batch):` around each "
                "batch"
            )
