"""What the cases start from. The suite's own process reads this file, and must not import Keras."""

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _fresh():
    import keras

    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(50, 8, 8, 2)).astype("float32")


@pytest.fixture
def targets():
    return np.random.default_rng(1).normal(size=(50, 3)).astype("float32")
