"""Bounds of an entropy that hold where too little of the source was seen to estimate it."""

import math

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu.information.group_table import GroupTable
from tensorstate_gpu.information.replicates import Replicates

Bound = tuple[float, str]  # in bits, and where it is from
_NO_COINCIDENCE = 2 * math.log2(4.7439)  # bits; see least_entropy()


def least_entropy(table: GroupTable, value: float, replicates: Replicates) -> Bound:
    """Return an entropy that the source's exceeds with 95 % confidence.

    If no state occurred in two groups: for a given sum of p**2 = q**2, that is most probable if one
    state has the probability q and all others are rare. It occurs at most once among N independent
    instances with probability (1 - q)**N + N q (1 - q)**(N - 1), which is 5 % for N q = 4.744. So q
    is less with 95 % confidence, and the entropy, at least -log2 of q**2, is more than
    2 log2 N - 4.49. Pairs of instances within a group do not count.
    """
    if table.rows_in_one_group == table.rows:
        pairs = 1 - 1 / replicates.groups
        instances = table.instances.independent
        if pairs <= 0:
            return 0.0, "nothing"
        bits = 2 * math.log2(instances) + math.log2(pairs) - _NO_COINCIDENCE
        return max(0.0, bits), "no coincidences"
    if replicates.margin is None:
        return 0.0, "nothing"
    return max(0.0, value - replicates.margin), "chao-wang-jost"


def unseen_entropy(table: GroupTable) -> float:
    """Return the bits that a state may add that the sample has not, with 95 % confidence.

    Its share is below 3 / N then, for N rows that count as independent (the rule of three: Hanley
    and Lippman-Hand, "If nothing goes wrong, is everything all right?", 1983).
    """
    instances = table.instances.independent
    rows = table.rows / max(1.0, table.clustering) if table.clustering else instances
    share = min(0.5, 3 / max(rows, instances))
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)


def greatest_entropy(table: GroupTable, neurons: int | None) -> Bound:
    """Return the number of neurons; or the sum of their entropies and its error, if it is less.

    Neurons that depend on each other have less entropy than the sum.
    """
    most = math.inf if neurons is None else float(neurons)
    if table.firing is None:
        return most, "neurons"
    total = table.firing.sum(axis=0)
    firing, each = table.firing, table.rows_by_group
    value = _sum_of_entropies(total, table.rows)
    margin = Replicates.of(
        table,
        value,
        lambda group: _sum_of_entropies(total - firing[group], table.rows - int(each[group])),
    ).margin
    if margin is None or value + margin + unseen_entropy(table) >= most:
        return most, "neurons"
    return value + margin + unseen_entropy(table), "entropies of the neurons"


def _sum_of_entropies(firing: NDArray[np.int64], rows: int) -> float:
    """Return the sum of the neurons' own entropies in bits, with Miller's correction."""
    p = np.stack([firing, rows - firing]) / rows
    bits = -float((p * np.log2(np.where(p > 0, p, 1.0))).sum())
    return bits + int(((p > 0).all(axis=0)).sum()) / (2 * rows * math.log(2))
