"""Tables of the histograms of groups, with a number for each state, for estimates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._states.backends import cpu
from tensorstate_gpu._states.histogram_pairs import Pairs
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.states_by_group import neurons_of
from tensorstate_gpu._states.sums_over_states import sum_over_states
from tensorstate_gpu.information.group_table import GroupTable, SampledInstances
from tensorstate_gpu.information.many_samples import ManySamples

Ints = NDArray[np.int64]
_NONE = np.zeros(0, np.int64)
_FEW = 1 << 14  # states of all groups, times neurons, that are added up in one call


def table_of_groups(parts: Sequence[StateCounts], sample: SampledInstances) -> GroupTable:
    """Return the histograms of groups of these instances with a number for each state."""
    # Of many labels with few inputs each, most groups are empty: what is done for each counts.
    present = [(group, part) for group, part in enumerate(parts) if len(part)]
    neurons = neurons_of(parts)
    firing = np.zeros((len(parts), neurons), np.int64)
    places, counts = [_NONE] * len(parts), [_NONE] * len(parts)
    total = _NONE
    if present:
        filled = [part for _, part in present]
        distinct, _, numbers = cpu().unique(np.concatenate([part.packed for part in filled]))
        total = np.zeros(len(distinct), np.int64)
        start = 0
        for group, part in present:
            places[group], counts[group] = numbers[start : start + len(part)], part.counts
            total[places[group]] += part.counts
            start += len(part)
        firing[[group for group, _ in present]] = _firing(filled, neurons)
    return GroupTable(
        total,
        tuple(places),
        tuple(counts),
        sample,
        neurons,
        firing,
        lambda group: cofiring(parts[group]),
    )


def table_of_pairs(
    each: Sequence[Sequence[StateCounts]], sample: SampledInstances
) -> tuple[Ints, GroupTable]:
    """Return what estimates need of the pairs of histogram and state, of histograms by group.

    And the rows of each histogram by group, (histograms, groups). No two have a common pair.
    """
    pairs, groups = Pairs.of(each), len(each[0])
    rows = np.zeros((len(each), groups), np.int64)
    if not len(pairs.counts):
        return rows, GroupTable(_NONE, (), (), sample)
    np.add.at(rows, (pairs.histograms, pairs.groups), pairs.counts)
    places, histogram_of = pairs.numbered()
    total = np.zeros(len(histogram_of), np.int64)
    np.add.at(total, places, pairs.counts)
    order = np.argsort(pairs.groups, kind="stable")
    ends = np.searchsorted(pairs.groups[order], np.arange(1, groups))
    split = [tuple(np.split(values[order], ends)) for values in (places, pairs.counts)]
    return rows, GroupTable(total, split[0], split[1], sample)


def many_samples(
    each: Sequence[Sequence[StateCounts]], samples: Sequence[SampledInstances]
) -> ManySamples:
    """Return what estimates need of each of some histograms by group, all of which have rows.

    ``samples``: which instances each of them is of.
    """
    pairs, groups, neurons = Pairs.of(each), len(each[0]), neurons_of(each[0])
    places, histogram_of = pairs.numbered()
    return ManySamples(
        places,
        pairs.counts,
        pairs.histograms * groups + pairs.groups,
        histogram_of,
        np.array([sample.by_group for sample in samples], np.int64),
        np.array([sample.has_units for sample in samples]),
        pairs.firing(len(each), groups, neurons),
        lambda chosen: pairs.cofiring(chosen, groups, neurons),
    )


def cofiring(part: StateCounts) -> Ints:
    """Return in how many rows each two neurons fire together, (neurons, neurons)."""
    found = sum_over_states(part.packed, part.counts, cpu().cofiring)
    return found[: part.neurons, : part.neurons]


def _firing(parts: Sequence[StateCounts], neurons: int) -> Ints:
    """Return in how many rows of each group each neuron fires, (groups, neurons).

    ``parts``: of these groups, all with rows.
    """
    lengths = [len(part) for part in parts]
    if sum(lengths) * neurons > _FEW:
        firing_counts = cpu().firing_counts
        sums = [sum_over_states(part.packed, part.counts, firing_counts) for part in parts]
        return np.array(sums)[:, :neurons]
    fires = np.unpackbits(
        np.concatenate([part.packed for part in parts]), axis=1, count=neurons, bitorder="little"
    )
    counts = np.concatenate([part.counts for part in parts])
    starts = np.cumsum([0, *lengths[:-1]])
    found: Ints = np.add.reduceat(fires * counts[:, None], starts, axis=0)
    return found
