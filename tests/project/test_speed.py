"""No kernel falls off a cliff: against plain loops, none is less than half as fast as it was."""

import json

import pytest

from benchmarks import guard

ATTEMPTS = 4  # a busy machine slows one of two contenders for a while; a cliff stays


def slower(measured, kept):
    """Cases that are less than half as fast as they were, with both ratios."""
    return {
        name: (measured[name], ratio) for name, ratio in kept.items() if measured[name] < ratio / 2
    }


@pytest.mark.slow
@pytest.mark.serial
def test_no_kernel_is_half_as_fast_as_it_was():
    kept = json.loads(guard.KEPT.read_text())
    best = guard.measure()
    for _ in range(ATTEMPTS - 1):
        if not slower(best, kept):
            break
        best = {name: max(ratio, best[name]) for name, ratio in guard.measure().items()}
    assert not slower(best, kept)


def test_the_guard_would_notice():
    kept = json.loads(guard.KEPT.read_text())
    halved = {name: 0.49 * ratio for name, ratio in kept.items()}
    assert slower(halved, kept).keys() == kept.keys()
    assert not slower(kept, kept)
