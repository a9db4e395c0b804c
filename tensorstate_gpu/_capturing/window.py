"""CountsWindow: the counts of a layer, of all steps or of the last captured ones."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tensorstate_gpu._arrays.array_types import NativeArray
from tensorstate_gpu._arrays.saved_arrays import SavedPart
from tensorstate_gpu._layers.batches import Batches, totals
from tensorstate_gpu._layers.counts_accumulator import CountsAccumulator
from tensorstate_gpu._states.grouped_counts import GroupedCounts
from tensorstate_gpu._states.state_counts import StateCounts, merge_all
from tensorstate_gpu.errors import InputsUnknown, LabelsMissing, RowsNotKept

State = dict[str, object]  # integers, strings and NumPy arrays


@dataclass
class Piece:
    """Counts of a step, or of all: those that were loaded, and those that are still being added."""

    step: int
    passed_over: int = 0
    loaded: list[StateCounts | GroupedCounts] = field(default_factory=list)
    running: CountsAccumulator | None = None

    def counts(self, neurons: int) -> StateCounts:
        parts = [part if isinstance(part, StateCounts) else part.together() for part in self.loaded]
        if self.running is not None:
            parts.append(self.running.histogram())
        return merge_all(parts, neurons)

    def grouped(self) -> GroupedCounts:
        """Return the counts by group. Raises InputsUnknown if rows belong to no known input."""
        parts = list(self.loaded)
        if self.running is not None:
            parts.append(self.running.counted_groups(None).load())
        groups = [part for part in parts if isinstance(part, GroupedCounts)]
        if len(groups) < len(parts):
            raise InputsUnknown("states belong to no known input")
        return _merged(groups)


class CountsWindow:
    """The counts of a layer: of the last ``size`` captured steps, or of all if it is None.

    ``groups``: for how many groups of inputs counts are kept apart; None for no groups.
    """

    def __init__(self, size: int | None, groups: int | None) -> None:
        self._size, self._groups = size, groups
        self._pieces: deque[Piece] = deque()
        self._instances = 0
        self.neurons = 0

    def add(self, step: int | None, packed: NativeArray, neurons: int, batches: Batches) -> None:
        """Add rows of a step; in a window, the oldest step leaves when there are more than fit.

        ``step``: None for a step that these rows are all of.
        """
        if step is None:
            step = self._pieces[-1].step + 1 if self._pieces else 0
        self.neurons = neurons
        piece = self._piece_of(step)
        if piece.running is None:
            piece.running = CountsAccumulator(neurons, self._groups, first=self._instances)
        piece.running.append(packed, batches, trusted=True)
        self._instances += totals(batches)[0]

    def pass_over(self, states: int) -> None:
        """Note states that are not asked for, of the step that was added to last."""
        self._pieces[-1].passed_over += states

    @property
    def passed_over(self) -> int:
        """The number of states of the same steps that were not asked for."""
        return sum(piece.passed_over for piece in self._pieces)

    def _piece_of(self, step: int) -> Piece:
        if not self._pieces or (self._size is not None and self._pieces[-1].step != step):
            self._pieces.append(Piece(step))
            self._drop_oldest()
        return self._pieces[-1]

    def _drop_oldest(self) -> None:
        while self._size is not None and len(self._pieces) > self._size:
            self._pieces.popleft()

    def counts(self) -> StateCounts:
        """Return how often each state occurred."""
        return merge_all([piece.counts(self.neurons) for piece in self._pieces], self.neurons)

    def grouped(self) -> GroupedCounts:
        """Return the same by group of inputs."""
        if self._groups is None:
            raise RowsNotKept("counts are not kept by group: groups=32 keeps them")
        return _merged([piece.grouped() for piece in self._pieces])

    def add_all(self, other: "CountsWindow") -> None:
        """Add the counts of another window, loaded or not, to the same steps here."""
        self.neurons = self.neurons or other.neurons
        self._instances += other._instances
        pieces = {piece.step: piece for piece in self._pieces}
        for piece in other._pieces:
            own = pieces.setdefault(piece.step, Piece(piece.step))
            own.passed_over += piece.passed_over
            own.loaded.append(_parts_of(piece, other.neurons))
        self._pieces = deque(pieces[step] for step in sorted(pieces))
        self._drop_oldest()

    # ---- saving --------------------------------------------------------------------------------

    def state(self) -> State:
        """Return everything as integers and arrays."""
        kept = [_parts_of(piece, self.neurons) for piece in self._pieces]
        grouped = [piece for piece in kept if isinstance(piece, GroupedCounts)]
        by_group = bool(grouped) and len(grouped) == len(kept)
        pieces = grouped if by_group else [_together(piece) for piece in kept]
        parts = [part for piece in pieces for part in _parts(piece)]
        samples = [piece.sample for piece in grouped] if by_group else []
        empty = StateCounts.empty(self.neurons)
        return {
            "neurons": self.neurons,
            "instances": self._instances,
            "passed_over": np.array([piece.passed_over for piece in self._pieces], np.int64),
            "steps": np.array([piece.step for piece in self._pieces], np.int64),
            "sizes": np.array([len(part) for part in parts], np.int64),
            "packed": np.concatenate([empty.packed, *(part.packed for part in parts)]),
            "counts": np.concatenate([empty.counts, *(part.counts for part in parts)]),
            "instances_by_group": np.array([s.by_group for s in samples], np.int64),
            "fingerprints": np.array([s.fingerprint for s in samples], np.uint64).view(np.int64),
        }

    def load(self, state: SavedPart) -> None:
        """Go on from what state() has returned. Of more steps than fit, the last are kept.

        Raises ValueError, and changes nothing, for anything else.
        """
        neurons, instances = state.integer("neurons", 1), state.integer("instances")
        steps, passed_over = (state.array(name, np.int64, 1) for name in ("steps", "passed_over"))
        loaded = _loaded(state, neurons, len(steps), self._groups or 0)
        if not len(steps) == len(passed_over) == len(loaded):
            raise ValueError(f"state is damaged: {state.place} has not the counts of each step")
        pieces = zip(steps.tolist(), passed_over.tolist(), loaded, strict=True)
        self.neurons, self._instances = neurons, instances
        self._pieces = deque(Piece(step, left, [counts]) for step, left, counts in pieces)
        self._drop_oldest()


def _loaded(
    state: SavedPart, neurons: int, steps: int, groups: int
) -> Sequence[StateCounts | GroupedCounts]:
    """Return the counts of each step, by group if they were saved so."""
    sizes, counts, fingerprints = (
        state.array(name, np.int64, 1) for name in ("sizes", "counts", "fingerprints")
    )
    packed = state.array("packed", np.uint8, 2)
    if (sizes < 0).any() or not sizes.sum() == len(packed) == len(counts):
        raise ValueError(f"state is damaged: {state.place} has not as many states as its sizes say")
    edges = np.cumsum(sizes)[:-1]
    pairs = zip(np.split(packed, edges), np.split(counts, edges), strict=True)
    parts = [StateCounts(rows, numbers, neurons) for rows, numbers in pairs] if len(sizes) else []
    if not len(fingerprints):
        return parts
    by_group = state.array("instances_by_group", np.int64, 2)
    if (
        by_group.shape != (steps, groups)
        or len(fingerprints) != steps
        or len(parts) != by_group.size
    ):
        raise ValueError(f"state is damaged: {state.place} has not the groups of each step")
    return [
        GroupedCounts(parts[i * groups : (i + 1) * groups], by_group[i].tolist(), fingerprint)
        for i, fingerprint in enumerate(fingerprints.view(np.uint64).tolist())
    ]


def _merged(groups: list[GroupedCounts]) -> GroupedCounts:
    merged, *others = groups
    for other in others:
        merged = merged.merge(other)
    return merged


def _parts_of(piece: Piece, neurons: int) -> StateCounts | GroupedCounts:
    """Return the counts of a piece, by group if they are known so."""
    try:
        return piece.grouped()
    except (LabelsMissing, RowsNotKept):
        return piece.counts(neurons)


def _together(piece: StateCounts | GroupedCounts) -> StateCounts:
    return piece.together() if isinstance(piece, GroupedCounts) else piece


def _parts(piece: StateCounts | GroupedCounts) -> list[StateCounts]:
    return list(piece.parts) if isinstance(piece, GroupedCounts) else [piece]
