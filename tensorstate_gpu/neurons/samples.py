"""Samples of states as arguments: packed rows on any device, or histograms, with their sums."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.array_types import CudaArray, DLPackArray
from tensorstate_gpu._process.progress import OnDone, with_progress
from tensorstate_gpu._states.backends import cpu
from tensorstate_gpu._states.packed_arguments import borrow_packed, check_neurons, warn_if_unpacked
from tensorstate_gpu._states.sort_and_count import HasHistogram, count_states
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.stored_counts import StoredCounts
from tensorstate_gpu._states.sums_over_states import sum_over_states

States = DLPackArray | CudaArray | HasHistogram | StateCounts | StoredCounts
Ints = NDArray[np.int64]
_SampleT = TypeVar("_SampleT", StateCounts, StoredCounts, "_Rows")
_CountsT = TypeVar("_CountsT", StateCounts, StoredCounts)


class Sample(Protocol):
    """States with repetitions, of which sums are computed without unpacking."""

    @property
    def neurons(self) -> int: ...

    @property
    def total(self) -> int:
        """The number of states, with repetitions."""

    def firing_counts(self) -> Ints:
        """In how many states each neuron fires: (neurons,)."""

    def cofiring(self) -> Ints:
        """In how many states both of two neurons fire: (neurons, neurons)."""

    def active_neurons(self) -> Ints:
        """How many states have 0, 1, ... firing neurons: (neurons + 1,)."""


def sample_of(states: States, neurons: int | None, on_read: OnDone | None = None) -> Sample:
    """Return the sample that an argument of a public function is.

    ``on_read`` is called with the states of counts in files that were read since the last call.

    Raises TypeError or ValueError for an argument that is none, for an empty one, and for states
    with bits beyond their neurons.
    """
    if isinstance(states, StoredCounts):
        return _Histogram(_checked(states, neurons), on_read)
    if isinstance(states, (StateCounts, HasHistogram)):
        return _Histogram(counts_of(states, neurons))
    _check_of_one_layer(states)
    return _not_empty(_Rows(states, neurons))


def counts_of(states: States, neurons: int | None) -> StateCounts:
    """Return the histogram of an argument of a public function. Raises as sample_of() does."""
    if isinstance(states, StoredCounts):
        return _checked(states, neurons).load()
    if not isinstance(states, StateCounts):
        _check_of_one_layer(states)
        return _not_empty(count_states(states, neurons))
    return _checked(states, neurons)


def _check_of_one_layer(states: object) -> None:
    """Raise TypeError for a run, a store, or another mapping of layers, a report or a monitor."""
    kind = type(states).__name__
    if isinstance(states, Mapping):
        raise TypeError(f"states must be those of one layer, got {kind}: choose one by its name")
    if callable(getattr(states, "to_html", None)):
        raise TypeError(f"states must be those of one layer, got {kind}: choose one of its run")
    if callable(getattr(states, "scalars", None)):
        raise TypeError(f"states must be those of one layer, got {kind}: its counts(layer)")


def _checked(counts: _CountsT, neurons: int | None) -> _CountsT:
    if neurons not in (None, counts.neurons):
        raise ValueError(f"states has {counts.neurons} neurons, not {neurons}")
    return _not_empty(counts)


def _not_empty(sample: _SampleT) -> _SampleT:
    if not sample.total:
        raise ValueError("states is empty; at least one state is needed")
    return sample


class _Rows:
    """Packed rows, on any device."""

    def __init__(self, states: object, neurons: int | None) -> None:
        self._backend, self._packed = borrow_packed(states)
        width = self._packed.shape[1]
        self._is_told = neurons is not None
        self.neurons = 8 * width if neurons is None else check_neurons(neurons, width, "neurons")
        self.total = self._packed.shape[0]

    def firing_counts(self) -> Ints:
        backend = self._backend
        with backend.working_on(self._packed):
            counts: Ints = backend.to_host(backend.firing_counts(backend.view(self._packed)))
        if counts[self.neurons :].any():
            raise ValueError(f"states have bits set beyond their {self.neurons} neurons")
        if not self._is_told:
            warn_if_unpacked(np.packbits(counts > 0, bitorder="little")[None])
        return counts[: self.neurons]

    def cofiring(self) -> Ints:
        self.firing_counts()  # checks the bits
        backend = self._backend
        with backend.working_on(self._packed):
            both: Ints = backend.to_host(backend.cofiring(backend.view(self._packed)))
        return both[: self.neurons, : self.neurons]

    def active_neurons(self) -> Ints:
        self.firing_counts()  # checks the bits
        backend = self._backend
        with backend.working_on(self._packed):
            firing = backend.popcount(backend.view(self._packed))
            # Numbers of 4 bytes are counted like states.
            rows, counts = backend.count(firing.view(np.uint8).reshape(-1, 4))
            numbers, states = backend.to_host(rows), backend.to_host(counts)
        found = np.zeros(self.neurons + 1, np.int64)
        found[numbers.view(np.int32)[:, 0]] = states
        return found


class _Histogram:
    """Distinct states, and how often each occurred: in memory, or read piece by piece."""

    def __init__(self, states: StateCounts | StoredCounts, on_read: OnDone | None = None) -> None:
        self._states, self._on_read = states, on_read
        self.neurons, self.total = states.neurons, states.total

    def _pieces(self) -> Iterable[StateCounts]:
        if isinstance(self._states, StateCounts):
            return [self._states]
        return with_progress(self._states.pieces(), lambda piece: piece.total, self._on_read)

    def firing_counts(self) -> Ints:
        return self._sum(cpu().firing_counts)[: self.neurons]

    def cofiring(self) -> Ints:
        return self._sum(cpu().cofiring)[: self.neurons, : self.neurons]

    def _sum(self, of_rows: Callable[[NDArray[np.uint8]], Ints]) -> Ints:
        pieces = self._pieces()
        return reduce(
            np.add, (sum_over_states(piece.packed, piece.counts, of_rows) for piece in pieces)
        )

    def active_neurons(self) -> Ints:
        found = np.zeros(self.neurons + 1, np.int64)
        for piece in self._pieces():
            np.add.at(found, cpu().popcount(piece.packed), piece.counts)
        return found
