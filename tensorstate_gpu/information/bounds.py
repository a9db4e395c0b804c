"""Bounds of an entropy that hold where too little of the source was seen to estimate it."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu.information.group_sums import GroupSums
from tensorstate_gpu.information.replicates import LEAST_GROUPS, Replicates, equal_groups

Bound = tuple[float, str]  # in bits, and where it is from
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
# About a second of one core: 500 neurons with 100,000 distinct states, or 1,000 with few.
MOST_PAIRS_OF_WORDS = 2**30
_BLOCK = 1 << 18  # neurons, times groups, whose entropies are computed together
NO_COINCIDENCE = 2 * math.log2(4.7439)  # bits; see least_entropy()


def least_entropy(sums: GroupSums, value: float, replicates: Replicates) -> Bound:
    """Return an entropy that the source's exceeds with 95 % confidence.

    If no state occurred in two groups: for a given sum of p**2 = q**2, that is most probable if one
    state has the probability q and all others are rare. It occurs at most once among N independent
    instances with probability (1 - q)**N + N q (1 - q)**(N - 1), which is 5 % for N q = 4.744. So q
    is less with 95 % confidence, and the entropy, at least -log2 of q**2, is more than
    2 log2 N - 4.49. Pairs of instances within a group do not count. Where instances have different
    numbers of rows, they count as fewer (Kish 1965): a few may have most of the rows, and the
    states of the others, all different, say little of the entropy then.
    """
    if sums.rows_alone.sum() == sums.rows:
        pairs = 1 - 1 / replicates.groups
        instances = min(replicates.groups, sums.instances.independent)
        if not sums.instances.has_units:
            instances = sums.effective_instances
        if pairs <= 0:
            return 0.0, "nothing"
        bits = 2 * math.log2(max(1.0, instances)) + math.log2(pairs) - NO_COINCIDENCE
        return max(0.0, bits), "no coincidences"
    if replicates.margin is None:
        return 0.0, "nothing"
    return max(0.0, value - replicates.margin), "chao-wang-jost"


def entropy_of_doubt(sums: GroupSums) -> float:
    """Return the bits that states may add to an estimate whose share the coverage conceals.

    If no state is alone, these are unseen_entropy(). Else the estimate knows of states that the
    sample has not, as many as the coverage says; there may be more, with 95 % confidence.
    """
    return _entropy_of_share(sums.coverage_doubt)


def unseen_entropy(sums: GroupSums) -> float:
    """Return the bits that a state may add that the sample has not, with 95 % confidence.

    Its share is below 3 / M then, for M independent instances (the rule of three: Hanley and
    Lippman-Hand, "If nothing goes wrong, is everything all right?", 1983). Rows do not count,
    however independent those are that were seen: all rows of a kind of instance that the sample has
    none of may be in states of its own.
    """
    return _entropy_of_share(3 / max(1.0, sums.effective_instances))


def _entropy_of_share(share: float) -> float:
    """Return the entropy in bits of a share > 0 and the rest; the most that it has up to there."""
    share = min(0.5, share)
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)


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
    total, rest = firing.sum(axis=0), sums.rows - sums.rows_by_group
    size = max(1, _BLOCK // len(total))
    blocks = (slice(start, start + size) for start in range(0, len(firing), size))
    without = np.concatenate(
        [_sums_of_entropies(total - firing[block], rest[block]) for block in blocks]
    )
    whole = _sums_of_entropies(total[None], np.array([sums.rows]))
    return _with_error(sums, float(whole[0]), lambda group: float(without[group]))


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
    return value + margin + unseen_entropy(sums)


def have_error(sums: GroupSums) -> bool:
    """Return whether there are enough groups to know the error of a measure."""
    return equal_groups(sums.rows_by_group) >= LEAST_GROUPS


def is_tree_quick(sums: GroupSums) -> bool:
    """Return whether a tree takes no long time, by how many words of 64 states are compared.

    What is computed with the array of all pairs of a group takes as long as 16 words of each pair.
    """
    words = int((16 + -(-sums.states_by_group // 64)).sum())
    return 2 * words * (sums.neurons or 0) ** 2 < MOST_PAIRS_OF_WORDS


def _sums_of_entropies(firing: Ints, rows: Ints) -> Floats:
    """Return the sum of the neurons' own entropies in bits, with Miller's correction: (samples,).

    ``firing``, (samples, neurons): in how many of ``rows``, (samples,), each fires. 0 without rows.
    """
    number = np.maximum(rows, 1)
    p = np.stack([firing, rows[:, None] - firing]) / number[:, None]
    bits = (p * np.log2(np.where(p > 0, p, 1.0))).sum(axis=(0, 2))
    both = (p > 0).all(axis=0).sum(axis=1)
    found: Floats = both / (2 * number * math.log(2)) - bits
    return found
