"""Tests of what Numba-CUDA compiles are not run, with the reason, where it does not know NumPy."""

from contextlib import contextmanager

import pytest


@contextmanager
def not_run_without_older_numpy():
    """Skip a test for which the product says that an older NumPy is needed."""
    try:
        yield
    except RuntimeError as error:
        if "install an older NumPy" not in str(error):
            raise
        pytest.skip(str(error))
