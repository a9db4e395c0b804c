"""About how many rows are distinct: the HyperLogLog estimate (Flajolet et al. 2007)."""

import math

import numpy as np
from numpy.typing import NDArray

REGISTERS = 1 << 12  # as in hash_table.h; the standard error is 1.04 / sqrt(REGISTERS) = 1.6 %


def estimated_distinct(ranks: NDArray[np.uint32]) -> int:
    """Return an estimate from the registers: each the highest rank of the hashes that fell to it.

    A hash has rank r with probability 2**-r.
    """
    registers = len(ranks)
    bias = 0.7213 / (1 + 1.079 / registers)
    estimate = bias * registers**2 / float(np.exp2(-ranks.astype(np.float64)).sum())
    empty = np.count_nonzero(ranks == 0)
    if empty and estimate < 2.5 * registers:
        estimate = registers * math.log(registers / empty)
    return round(estimate)
