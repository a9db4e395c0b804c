"""Waiting for what another thread does."""

import time


def wait_until(condition):
    """Until it holds; ten minutes at most, so that a test that hangs fails at last."""
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
