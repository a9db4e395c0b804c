"""Sixty rows in instances of different sizes, for the tests of what a capture point keeps."""

import numpy as np

from tensorstate_gpu import testing
from tests.support.points import new_point

KEEPS = ("states", "counts")
ROWS = np.random.default_rng(1).integers(0, 3, (60, 2)).astype(np.uint8)


def uneven():
    """30 instances: 10 of 3 states, 20 of 1, 1 batch of none, then 5 of 2 states; 60 rows."""
    point = new_point()
    point.append(ROWS[:30], 10)
    point.append(ROWS[30:50], 20)
    point.append(ROWS[50:50], 0)
    point.append(ROWS[50:], 5)
    return point


OF_INSTANCE = np.concatenate(
    [np.arange(10).repeat(3), np.arange(10, 30), np.arange(30, 35).repeat(2)]
)


def assert_counts(histogram, rows):
    packed, counts = testing.count(rows)
    np.testing.assert_array_equal(histogram.packed, packed)
    np.testing.assert_array_equal(histogram.counts, counts)
