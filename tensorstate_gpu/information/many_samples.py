"""ManySamples: what estimates need of many small samples, such as labels, in arrays."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu.information.dependence_trees import MOST_CELLS, code_lengths_together
from tensorstate_gpu.information.estimators import odds_of, unseen_terms
from tensorstate_gpu.information.rarefactions import drawn_terms
from tensorstate_gpu.information.special_functions import digamma_over_log

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Numbers = Ints | Floats
SMALL_CELLS = 1 << 18  # of a sample whose tree takes some milliseconds: about 60 neurons


@dataclass(frozen=True, slots=True, eq=False)
class ManySamples:
    """How often states occurred in groups of many samples, each of which has rows.

    An *entry* is a state of a group of a sample. ``places``, (entries,): the number of its sample
    and state; ``counts``, (entries,): how often it occurred; ``parts``, (entries,): the number of
    its sample and group, which is the sample times the number of groups, plus the group.
    ``sample_of``, (states,): the sample of each number in ``places``.
    ``instances``, (samples, groups), and ``has_units``, (samples,): as in SampledInstances.
    ``firing``, (samples, groups, neurons): in how many rows of a group each neuron fires.
    ``cofiring``: returns of chosen samples what code_lengths_together() needs.
    """

    places: Ints
    counts: Ints
    parts: Ints
    sample_of: Ints
    instances: Ints
    has_units: NDArray[np.bool_]
    firing: Ints
    cofiring: Callable[[Ints], Ints]

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of samples and groups."""
        samples, groups = self.instances.shape
        return samples, groups

    def by_group(self, weights: NDArray[np.generic]) -> Floats:
        """Return the sums of a weight of the entries, (samples, groups)."""
        samples, groups = self.shape
        sums = np.bincount(self.parts, weights, minlength=samples * groups)
        return sums.astype(np.float64, copy=False).reshape(samples, groups)

    def by_sample(self, weights: NDArray[np.generic]) -> Floats:
        """Return the sums of a weight of the states, (samples,)."""
        sums = np.bincount(self.sample_of, weights, minlength=len(self.instances))
        return sums.astype(np.float64, copy=False)

    def totals(self) -> Floats:
        """Return how often each state of a sample occurred, in all groups: (states,)."""
        sums = np.bincount(self.places, self.counts, minlength=len(self.sample_of))
        return sums.astype(np.float64, copy=False)

    def rows(self) -> Ints:
        """Return how many rows each sample has, also where a float does not hold the number."""
        found = np.zeros(len(self.instances), np.int64)
        np.add.at(found, self.sample_of[self.places], self.counts)
        return found

    def groups_of_states(self) -> Ints:
        """Return in how many groups of its sample each state occurs, (states,)."""
        return np.bincount(self.places, minlength=len(self.sample_of))

    def in_groups(self) -> Floats:
        """Return how many states of each group occur in 1 to 3 groups, (3, samples, groups)."""
        groups = self.groups_of_states()[self.places]
        return np.stack([self.by_group(groups == number) for number in (1, 2, 3)])

    def rows_alone(self) -> Floats:
        """Return the rows of each group whose state occurs in no other, (samples, groups)."""
        groups = self.groups_of_states()
        return self.by_group(np.where(groups[self.places] == 1, self.counts, 0))

    def rows_left(self) -> Floats:
        """Return how many rows without a group have a state of one group only, and of this."""
        groups = self.groups_of_states()
        others = self.totals()[self.places] - self.counts
        return self.by_group(np.where(groups[self.places] == 2, others, 0))

    def share_no_state(self) -> NDArray[np.bool_]:
        """Return of each sample whether each of its states is in one group only, (samples,)."""
        groups = self.groups_of_states()
        none: NDArray[np.bool_] = self.by_sample(groups > 1) == 0
        return none

    def small(self) -> NDArray[np.bool_]:
        """Return of which samples code_lengths() makes trees, (samples,)."""
        return self._cells_of_pairs() <= SMALL_CELLS

    def code_lengths(self, chosen: Ints) -> Floats:
        """Return the bits of the groups of some small samples by dependence trees."""
        cells = np.cumsum(self._cells_of_pairs()[chosen])
        blocks = np.split(chosen, np.flatnonzero(np.diff(cells // MOST_CELLS)) + 1)
        return np.concatenate([code_lengths_together(self.cofiring(block)) for block in blocks])

    def _cells_of_pairs(self) -> Ints:
        samples, groups = self.shape
        states = np.bincount(self.parts // groups, minlength=samples)
        cells: Ints = np.maximum(groups, states) * (self.firing.shape[-1] + 1) ** 2
        return cells

    def squares(self) -> Floats:
        """Return the sums over states of their squared count, by that in all groups."""
        return self.by_group(self.counts.astype(np.float64) ** 2 / self.totals()[self.places])


@dataclass(frozen=True, slots=True, eq=False)
class Entropies:
    """Entropies in bits of many samples, and of each without one of its groups.

    ``source``, ``sample``, (samples,): by the estimator of Chao, Wang and Jost, and the plug-in.
    ``source_without``, ``sample_without``, (samples, groups): 0 where a group has all rows.
    ``of_half``, (samples,): what half of the rows would show. ``distinct``, (samples,): states.
    ``rare``, (3, samples), and ``rare_without``, (3, samples, groups): rows, and how many states
    occurred once, and twice.
    """

    source: Floats
    sample: Floats
    source_without: Floats
    sample_without: Floats
    of_half: Floats
    distinct: Ints
    rare: Floats
    rare_without: Floats

    @classmethod
    def of(cls, many: ManySamples) -> Entropies:
        """Compute them. Without a group, only terms of its own states are other ones."""
        totals = many.totals()
        left = totals[many.places] - many.counts
        whole = _Sums.of(totals, many.by_sample)
        changes = _Sums.of(left, many.by_group).less(_Sums.of(totals[many.places], many.by_group))
        rests = whole.plus(changes)
        source, sample = whole.entropies()
        source_without, sample_without = rests.entropies()
        half = _of_half(totals, many.sample_of, whole.rows)
        return cls(
            source,
            sample,
            source_without,
            sample_without,
            half,
            whole.states.astype(np.int64),
            np.stack([whole.rows, whole.once, whole.twice]),
            np.stack([rests.rows, rests.once, rests.twice]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """Sums over the states of samples, of one shape: all that estimators need of them.

    ``rows``, ``states``; ``once``, ``twice``: states that occurred so often; ``logs``: of n ln n,
    and ``rests``: of n (psi(n) - ln n), for states that occurred n times.
    """

    rows: Floats
    states: Floats
    once: Floats
    twice: Floats
    logs: Floats
    rests: Floats

    @classmethod
    def of(cls, counts: Floats, summed: Callable[[NDArray[np.generic]], Floats]) -> _Sums:
        n, inverse = np.unique(counts, return_inverse=True)
        present = np.maximum(n, 1.0)
        rest = np.where(n > 0, n * digamma_over_log(present), 0.0)
        terms = n, n > 0, n == 1, n == 2, n * np.log(present), rest
        return cls(*(summed(term[inverse]) for term in terms))

    def less(self, other: _Sums) -> _Sums:
        return _Sums(*(one - two for one, two in zip(self._all(), other._all(), strict=True)))

    def plus(self, changes: _Sums) -> _Sums:
        """Return these sums, (samples,), with changes, (samples, groups)."""
        each = zip(self._all(), changes._all(), strict=True)
        return _Sums(*(own[:, None] + change for own, change in each))

    def _all(self) -> tuple[Floats, ...]:
        return self.rows, self.states, self.once, self.twice, self.logs, self.rests

    def entropies(self) -> tuple[Floats, Floats]:
        """Return those of the source, and of the sample, in bits; 0 without rows."""
        varies, rows = self.states > 1, np.maximum(self.rows, 1.0)
        plug_in = np.log(rows) - self.logs / rows
        zhang = plug_in + digamma_over_log(rows) - self.rests / rows
        found = zhang + self.once / rows * self._unseen()
        source, sample = (np.where(varies, nats / math.log(2), 0.0) for nats in (found, plug_in))
        return np.maximum(source, 0.0), sample

    def _unseen(self) -> Floats:
        """Return the sums of unseen_terms(): once for samples with the same numbers."""
        columns = (self.rows, self.once, self.twice)
        numbers, first = numbered(columns)
        cases = (column.ravel()[first].astype(np.int64).tolist() for column in columns)
        values = np.array([_unseen_of(*case) for case in zip(*cases, strict=True)])
        return values[numbers].reshape(self.rows.shape)


@functools.lru_cache(maxsize=1 << 16)
def _unseen_of(rows: int, once: int, twice: int) -> float:
    odds = odds_of(rows, once, twice) if rows else 0.0
    return unseen_terms(float(rows), odds) if odds else 0.0


def numbered(columns: tuple[Numbers, ...]) -> tuple[Ints, Ints]:
    """Return the same number for each distinct tuple of values, and a place of each."""
    numbers = np.zeros(columns[0].size, np.int64)
    first = numbers
    for column in columns:
        values, own = np.unique(column, return_inverse=True)
        keys = numbers * len(values) + own.ravel()
        _, first, numbers = np.unique(keys, return_index=True, return_inverse=True)
    return numbers, first


def _of_half(totals: Floats, sample_of: Ints, rows: Floats) -> Floats:
    """Return the entropy in bits that half of the rows of each sample would show."""
    sizes, size_of = np.unique(rows, return_inverse=True)
    numbers, first = numbered((size_of[sample_of].astype(np.float64), totals))
    terms, counts = np.zeros(len(first)), totals[first].astype(np.int64)
    cases = size_of[sample_of[first]]
    order = np.argsort(cases, kind="stable")
    for own in np.split(order, np.flatnonzero(np.diff(cases[order])) + 1):
        total = int(sizes[cases[own[0]]])
        terms[own] = drawn_terms(counts[own], max(1, total // 2), total)
    nats = np.bincount(sample_of, terms[numbers], minlength=len(rows))
    return np.maximum(0.0, nats / math.log(2))
