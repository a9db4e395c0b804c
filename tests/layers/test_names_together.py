"""The layers of several runs of a model, in the order of the model."""

import pytest

from tensorstate_gpu._layers.names_together import names_together


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        ("", ""),
        (["abc", "abc"], "abc"),
        (["abc", "axbc", "abyc"], "axbyc"),
        (["axbc", "abc"], "axbc"),
        (["", "ab", "zab"], "zab"),
        (["abc", "abxyc", "abycz"], "abxycz"),
    ],
)
def test_names_that_a_run_lacks_are_where_others_have_them(each, expected):
    assert names_together([list(names) for names in each]) == list(expected)
