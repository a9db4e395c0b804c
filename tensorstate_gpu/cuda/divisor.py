"""Division by multiplying, for kernels: kernels/divide.h."""

import numpy as np

MOST_DIVIDED = (1 << 31) - 1


def divisor(by: int) -> tuple[np.uint32, np.uint32, np.uint32]:
    """Return what a kernel needs to divide numbers up to MOST_DIVIDED by 1 to MOST_DIVIDED.

    The multiplier is 2**(31 + b) / by, rounded up, for the b bits of by - 1. It is less than 2**32,
    and so little too large that no quotient differs (Granlund and Montgomery 1994).
    """
    bits = (by - 1).bit_length()
    return np.uint32(by), np.uint32(-(-(1 << 31 + bits) // by)), np.uint32(bits)
