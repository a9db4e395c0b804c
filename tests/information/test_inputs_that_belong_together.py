"""Inputs that depend on each other: intervals hold with units=, and do not without.

Nothing in a sample says that its inputs belong together, so there is no warning.
"""

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.information import entropy

STATES = np.arange(64)
SHARES = 1 / (STATES + 1)
SHARES /= SHARES.sum()


def frames(rng, number):
    """Each frame has the state of the one before, but for one in ten. Units are 50 frames long."""
    is_new = rng.random(number) < 0.1
    is_new[0] = True
    scene = np.cumsum(is_new) - 1
    return rng.choice(64, scene[-1] + 1, p=SHARES)[scene], np.arange(number) // 50


def duplicates(rng, number):
    """Each input is in the data set once to five times, in any place."""
    owners = np.repeat(np.arange(number), rng.integers(1, 6, number))[:number]
    order = rng.permutation(number)
    return rng.choice(64, number, p=SHARES)[owners][order], owners[order]


@pytest.mark.parametrize(("source", "number"), [(frames, 8000), (duplicates, 2000)])
def test_intervals_hold_with_units(source, number):
    rng, held = np.random.default_rng(0), {True: 0, False: 0}
    for _ in range(30):
        states, units = source(rng, number)
        for are_told in held:
            point = ts.CapturePoint("layer")
            point.declare(neurons=6)
            point.append(
                states.astype(np.uint8)[:, None], number, units=units if are_told else None
            )
            found = point.estimate()
            assert found.confidence_interval is not None
            held[are_told] += found.lower <= entropy(SHARES) <= found.upper
    assert held[True] >= 28
    assert held[False] <= 24
