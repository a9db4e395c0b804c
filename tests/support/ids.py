"""Names of parametrized cases that are the same in every process."""

import re


def plain(value):
    """Like str, without addresses of objects, and without a set that codecs of zarr have."""
    return re.sub(r" at 0x[0-9a-f]+|_tunable_attrs=\{.*?\}, ", "", str(value))
