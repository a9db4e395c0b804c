"""Bounds of an entropy that hold where too little of the source was seen to estimate it."""

import math
from collections.abc import Callable

import numpy as np

from tensorstate_gpu.information.group_coverage import (
    Bools,
    Floats,
    GroupCoverage,
    Ints,
    Numbers,
    independent_instances,
)
from tensorstate_gpu.information.group_sums import GroupSums
from tensorstate_gpu.information.replicates import LEAST_GROUPS, Replicates, equal_groups

Bound = tuple[float, str]  # in bits, and where it is from
# About a second of one core: 500 neurons with 100,000 distinct states, or 1,000 with few.
MOST_PAIRS_OF_WORDS = 2**30
_BLOCK = 1 << 18  # neurons, times groups, whose entropies are computed together
NO_COINCIDENCE = 2 * math.log2(4.7439)  # bits; see without_coincidences()


def least_entropy(sums: GroupSums, value: float, replicates: Replicates) -> Bound:
    """Return an entropy that the source's exceeds with 95 % confidence."""
    if sums.rows_alone.sum() == sums.rows:
        if replicates.groups <= 1:
            return 0.0, "nothing"
        each, has_units = np.array(sums.instances.by_group), np.array(sums.instances.has_units)
        least = without_coincidences(np.array(replicates.groups), each, has_units, sums.cover)
        return float(least), "no coincidences"
    if replicates.margin is None:
        return 0.0, "nothing"
    return max(0.0, value - replicates.margin), "chao-wang-jost"


def without_coincidences(
    groups: Floats, instances: Ints, has_units: Bools, cover: GroupCoverage
) -> Floats:
    """Return an entropy that the source's exceeds with 95 % confidence, if no group shares a state.

    For a given sum of p**2 = q**2, that is most probable if one state has the probability q and all
    others are rare. It occurs at most once among N independent instances with probability
    (1 - q)**N + N q (1 - q)**(N - 1), which is 5 % for N q = 4.744. So q is less with 95 %
    confidence, and the entropy, at least -log2 of q**2, is more than 2 log2 N - 4.49. Pairs of
    instances within a group do not count. Where instances have different numbers of rows, they
    count as fewer (Kish 1965): a few may have most of the rows, and the states of the others, all
    different, say little of the entropy then.

    ``groups``, (...): as how many of equal size they count; 0 bits of one group.
    """
    pairs = 1 - 1 / groups
    of_units = np.minimum(groups, independent_instances(instances, has_units))
    number = np.maximum(1.0, np.where(has_units, of_units, cover.effective))
    bits = 2 * np.log2(number) + np.log2(np.where(pairs > 0, pairs, 1.0)) - NO_COINCIDENCE
    return np.where(pairs > 0, np.maximum(0.0, bits), 0.0)


def entropy_of_doubt(cover: GroupCoverage) -> Floats:
    """Return the bits that states may add to an estimate whose share the coverage conceals.

    If no state is alone, these are unseen_entropy(). Else the estimate knows of states that the
    sample has not, as many as the coverage says; there may be more, with 95 % confidence.
    """
    return _entropy_of_share(cover.doubt)


def unseen_entropy(cover: GroupCoverage) -> Floats:
    """Return the bits that a state may add that the sample has not, with 95 % confidence.

    Its share is below 3 / M then, for M independent instances (the rule of three: Hanley and
    Lippman-Hand, "If nothing goes wrong, is everything all right?", 1983). Rows do not count,
    however independent those are that were seen: all rows of a kind of instance that the sample has
    none of may be in states of its own.
    """
    return _entropy_of_share(3 / np.maximum(1.0, cover.effective))


def _entropy_of_share(share: Floats) -> Floats:
    """Return the entropy in bits of a share > 0 and the rest; the most that it has up to there."""
    share = np.minimum(0.5, share)
    bits: Floats = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    return bits


def greatest_entropy(sums: GroupSums, neurons: int | None, tree: Floats | None) -> Bound:
    """Return an entropy that the source's does not exceed, with 95 % confidence.

    The least of: the number of neurons; the sum of the neurons' own entropies, which is more than
    that of neurons that depend on each other; and, if it is given, the length of a code that knows
    some of these dependences. The last two with what their errors add, and what is not in the
    sample. ``tree``: the bits of each group by the code of a dependence tree.
    """
    bounds: list[Bound] = [(math.inf if neurons is None else float(neurons), "neurons")]
    if not have_error(sums):
        return bounds[0]
    if sums.firing is not None:
        more = _by_the_neurons(sums, sums.firing), "entropies of the neurons"
        bounds.append(more)
    if tree is not None:
        bounds.append((_by_a_tree(sums, tree), "dependence tree"))
    return min(bounds, key=lambda bound: bound[0])


def _by_the_neurons(sums: GroupSums, firing: Ints) -> float:
    whole, without = entropies_of_neurons(firing, sums.rows_by_group)
    return _with_error(sums, float(whole), lambda group: float(without[group]))


def _by_a_tree(sums: GroupSums, bits: Floats) -> float:
    each, total = sums.rows_by_group, float(bits.sum())
    return _with_error(
        sums,
        total / sums.rows,
        lambda group: (total - bits[group]) / (sums.rows - each[group]),
    )


def _with_error(sums: GroupSums, value: float, without: Callable[[int], float]) -> float:
    margin = Replicates.of(sums.rows_by_group, value, without).margin
    assert margin is not None  # have_error()
    return value + margin + float(unseen_entropy(sums.cover))


def have_error(sums: GroupSums) -> bool:
    """Return whether there are enough groups to know the error of a measure."""
    return equal_groups(sums.rows_by_group) >= LEAST_GROUPS


def is_tree_quick(sums: GroupSums) -> bool:
    """Return whether a tree takes no long time."""
    return pairs_of_words(sums.states_by_group, sums.neurons or 0) < MOST_PAIRS_OF_WORDS


def pairs_of_words(states_by_group: Ints, neurons: int) -> int:
    """Return how long a tree takes: how many words of 64 states are compared.

    What is computed with the array of all pairs of a group takes as long as 16 words of each pair.
    """
    return 2 * int((16 + -(-states_by_group // 64)).sum()) * neurons**2


def entropies_of_neurons(firing: Ints, rows: Numbers) -> tuple[Floats, Floats]:
    """Return the sum of the neurons' own entropies in bits, (...), and without each group.

    ``firing``, (..., groups, neurons): in how many of ``rows``, (..., groups), each fires.
    """
    total, whole = firing.sum(axis=-2), rows.sum(axis=-1)
    each, rest = total[..., None, :] - firing, whole[..., None] - rows
    return _sums_of_entropies(total, whole), _sums_of_entropies(each, rest)


def _sums_of_entropies(firing: Ints, rows: Numbers) -> Floats:
    """Return the sum of the neurons' own entropies in bits, with Miller's correction: (...).

    ``firing``, (..., neurons): in how many of ``rows``, (...), each fires. 0 without rows.
    """
    flat, neurons = np.maximum(rows, 1).reshape(-1, 1), firing.shape[-1]
    size = max(1, _BLOCK // neurons)
    blocks = (slice(start, start + size) for start in range(0, len(flat), size))
    each = firing.reshape(-1, neurons)
    bits = [_sum_of_entropies(each[block], flat[block]) for block in blocks]
    return np.concatenate([np.empty(0), *bits]).reshape(rows.shape)


def _sum_of_entropies(firing: Ints, rows: Numbers) -> Floats:
    """Return the same of so many rows, (samples, 1), of (samples, neurons).

    Of few rows, how many of them a neuron fires in is one of few numbers.
    """
    numbers = np.unique(rows).tolist()
    if sum(numbers) > firing.size:
        found: Floats = _entropies(firing, rows).sum(axis=1)
        return found
    found = np.empty(len(firing))
    for number in numbers:
        places = np.flatnonzero(rows[:, 0] == number)
        of_numbers = _entropies(np.arange(number + 1), np.array(number))
        found[places] = of_numbers[firing[places]].sum(axis=1)
    return found


def _entropies(firing: Ints, rows: Numbers) -> Floats:
    """Return the entropies in bits of neurons that fire in some of the rows, with Miller's term."""
    p = np.stack([firing, rows - firing]) / rows
    bits: Floats = (p * np.log2(np.where(p > 0, p, 1.0))).sum(axis=0)
    return (p > 0).all(axis=0) / (2.0 * rows * math.log(2)) - bits
