"""Names of parametrized cases that are the same in every process."""

import re


def plain(value):
    """Like str, without addresses of objects."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
