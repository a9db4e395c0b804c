"""ArrayRecord: what a commit record says of one array."""

import base64
import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True)
class ArrayRecord:
    """What is committed of one array.

    ``chunk_rows``: rows of a full chunk. ``checksums``: the CRC-32C of the committed values of each
    chunk. The file of the last, partial chunk may contain more values than are committed.
    """

    rows: int
    chunk_rows: int
    checksums: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        packed = np.array(self.checksums, "<u4").tobytes()
        return {
            "rows": self.rows,
            "chunk_rows": self.chunk_rows,
            "crc32c": base64.b64encode(packed).decode(),
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "ArrayRecord":
        packed = np.frombuffer(base64.b64decode(found["crc32c"], validate=True), "<u4")
        rows, chunk_rows = validated_count(found["rows"]), validated_count(found["chunk_rows"])
        if chunk_rows < 1 or len(packed) != -(-rows // chunk_rows):
            raise ValueError(f"{rows} rows in chunks of {chunk_rows}, {len(packed)} checksums")
        return cls(rows, chunk_rows, tuple(packed.tolist()))


def validated_count(number: Any) -> int:
    """Return an integer of 0 or more. Raises ValueError for anything else."""
    if validated_integer(number) < 0:
        raise ValueError(f"{number!r} is not a count")
    return int(number)


def validated_integer(number: Any) -> int:
    """Return an integer. Raises ValueError for anything else."""
    if type(number) is not int:
        raise ValueError(f"{number!r} is not an integer")
    return number
