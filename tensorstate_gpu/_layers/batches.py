"""Batches: how many states each instance (model input) of a series has, as pairs of numbers.

A pair (4, 16) is four instances with 16 states each. In a pair (4, -7) the second number is
negative: four instances have 7 states together, and it is not known which states are whose. In
(0, -7), the number of instances is not known either.
"""

from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

Batch = tuple[int, int]
Batches = tuple[Batch, ...]


@lru_cache(maxsize=1024)  # most batches of a layer are like the one before
def divided(rows: int, instances: int) -> Batches:
    """Return the batches of rows that belong to instances in equal parts.

    Raises ValueError if they do not divide.
    """
    if instances < 0 or (rows % instances if instances else rows):
        raise ValueError(f"{rows} rows do not divide into {instances} instances")
    # Plain integers: the cache gives them to equal arguments, such as np.int64(4) and 4.
    return ((int(instances), int(rows // instances)),) if instances else ()


def ragged(sizes: Iterable[int]) -> Batches:
    """Return the batches of instances with these numbers of rows, one after the other."""
    return tuple((len(list(group)), size) for size, group in groupby(sizes))


def unassigned(rows: int, instances: int | None) -> Batches:
    """Return the batches of rows of which it is not known to which instances they belong.

    ``instances``: how many there are; None if that is not known either.
    """
    if instances is None:
        return ((0, -rows),) if rows else ()
    if instances == 1 or not rows:  # then it is known
        return divided(rows, instances)
    return ((instances, -rows),)


def is_unassigned(batch: Batch) -> bool:
    return batch[1] < 0


def rows_of(batch: Batch) -> int:
    """Return the number of rows of all instances of a batch."""
    instances, each = batch
    return -each if each < 0 else instances * each


def totals(batches: Iterable[Batch]) -> tuple[int, int, int]:
    """Return the numbers of instances, of rows, and of rows that belong to no known instance."""
    instances = rows = lost = 0
    for batch in batches:
        instances += batch[0]
        rows += rows_of(batch)
        lost -= min(batch[1], 0)
    return instances, rows, lost


# The same of a tuple of batches: those of one pass are asked for several times.
cached_totals = lru_cache(maxsize=16)(totals)


def sizes_of(batches: Batches) -> NDArray[np.int64]:
    """Return the number of rows of each instance; all rows must belong to one."""
    counts, sizes = np.array(batches, np.int64).reshape(-1, 2).T
    return np.repeat(sizes, counts)


def appended(batches: list[Batch], more: Iterable[Batch]) -> None:
    """Append batches to a list. Consecutive ones with equally many states are one pair.

    Those that belong to no known instance stay apart: whoever selects all their instances, or none,
    knows their rows.
    """
    for instances, each in more:
        if batches and each >= 0 and batches[-1][1] == each:
            batches[-1] = (batches[-1][0] + instances, each)
        else:
            batches.append((instances, each))


def first(batches: Iterable[Batch], instances: int, rows: int) -> list[Batch]:
    """Return the first batches, up to these numbers of instances and rows."""
    result = []
    for count, each in batches:
        if instances <= 0 and rows <= 0:
            break
        taken = (count, each) if each < 0 else (min(count, instances), each)
        result.append(taken)
        instances, rows = instances - taken[0], rows - rows_of(taken)
    return result
