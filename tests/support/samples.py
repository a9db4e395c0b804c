"""Sweeps over everything: `make test` takes a sample, always the same, and `make test-all` all."""

import random

import pytest

# For a test that takes `every`.
sweep = pytest.mark.parametrize(
    "every", [False, pytest.param(True, marks=pytest.mark.long)], ids=["some", "every"]
)


def thinned(values, kept):
    """The values of a parameter; those that are not kept run in `make test-all` only.

    A value is a tuple where a test takes several parameters at once.
    """
    assert set(kept) <= set(values)
    return [value if value in kept else _long(value) for value in values]


def _long(value):
    values = value if isinstance(value, tuple) else (value,)
    return pytest.param(*values, marks=pytest.mark.long)


def sample(sequence, count, every=False, seed=0):
    """All of a sequence; or its first, its last, and others by chance: so many, in order."""
    if every or count >= len(sequence):
        return list(sequence)
    places = random.Random(seed).sample(range(1, len(sequence) - 1), count - 2)
    return [sequence[place] for place in [0, *sorted(places), len(sequence) - 1]]
