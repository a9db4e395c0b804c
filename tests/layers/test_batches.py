"""Batches: pairs of plain integers, whatever was given first."""

import numpy as np
import pytest

from tensorstate_gpu._layers.batches import divided


@pytest.mark.parametrize("first", [(np.int64(12), np.int64(1)), (12, True)], ids=str)
def test_equal_arguments_have_the_same_batches(first):
    """They are kept by these arguments, of which some are equal and of other types."""
    divided.cache_clear()
    for arguments in (first, (12, 1)):
        [batch] = divided(*arguments)
        assert batch == (1, 12)
        assert [type(number) for number in batch] == [int, int]
