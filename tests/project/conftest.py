"""What tests of mistakes and of guesses share."""

import numpy as np
import pytest

import tensorstate_gpu as ts


@pytest.fixture
def run():
    """A run of one layer: two neurons, four inputs, two labels."""
    point = ts.CapturePoint("relu")
    point.declare(neurons=2)
    point.append(np.array([[3], [0], [3], [1]], np.uint8), instances=4, labels=[0, 0, 1, 1])
    return ts.Run([point])
