"""WriterOptions: the options of a store that is opened for writing."""

import dataclasses
from typing import Any

from zarr.abc.codec import BytesBytesCodec

from tensorstate_gpu._arguments import function, positive_integer, real
from tensorstate_gpu._layers.chunked_buffer import chunk_size
from tensorstate_gpu._process.progress import ProgressCallback


@dataclasses.dataclass(frozen=True, slots=True)
class WriterOptions:
    """How a store is written. Raises TypeError or ValueError for invalid options.

    `Store` documents the options.
    """

    compressor: BytesBytesCodec | None = None
    commit_rows: int | None = None
    commit_seconds: float | None = None
    chunk_bytes: int | None = None
    progress: ProgressCallback | None = None

    def __post_init__(self) -> None:
        if self.compressor is not None and not isinstance(self.compressor, BytesBytesCodec):
            raise TypeError(
                "compressor must be a zarr codec such as zarr.codecs.ZstdCodec(), "
                f"got {type(self.compressor).__name__} {self.compressor!r}"
            )
        for name in ("commit_rows", "chunk_bytes"):
            if (number := getattr(self, name)) is not None:
                object.__setattr__(self, name, positive_integer(number, name, None))
        if self.commit_seconds is not None:
            object.__setattr__(self, "commit_seconds", _checked_seconds(self.commit_seconds))
        function(self.progress, "progress")

    @property
    def chunk_size(self) -> int:
        """Bytes of a full chunk."""
        return chunk_size(self.chunk_bytes)


def _checked_seconds(value: Any) -> float:
    seconds = real(value, "commit_seconds")
    if not 0 < seconds < 1e9:
        raise ValueError(
            f"commit_seconds must be greater than 0 and less than 1e9, got {seconds}; "
            "None commits by rows or by hand only"
        )
    return seconds
