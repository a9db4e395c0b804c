"""What a store may be opened with."""

from typing import Any

from zarr.abc.codec import BytesBytesCodec

from tensorstate_gpu._arguments import positive_integer, real


def choose(what: str, value: Any, accepted: tuple[str, ...]) -> None:
    """ValueError for what is not accepted."""
    if not isinstance(value, str) or value not in accepted:
        raise ValueError(f"{what} must be one of {accepted}, got {value!r}")


def check_options(
    compressor: Any, commit_rows: Any, commit_seconds: Any
) -> tuple[BytesBytesCodec | None, int | None, float | None]:
    """The options of a writer, as plain numbers; TypeError or ValueError for bad ones."""
    if compressor is not None and not isinstance(compressor, BytesBytesCodec):
        raise TypeError(
            "compressor must be a zarr codec such as zarr.codecs.ZstdCodec(), "
            f"got {type(compressor).__name__} {compressor!r}"
        )
    if commit_rows is not None:
        commit_rows = positive_integer(commit_rows, "commit_rows")
    if commit_seconds is not None:
        commit_seconds = real(commit_seconds, "commit_seconds")
        if not 0 < commit_seconds < 1e9:
            raise ValueError(
                f"commit_seconds must be greater than 0 and less than 1e9, got {commit_seconds}; "
                "None commits by rows or by hand only"
            )
    return compressor, commit_rows, commit_seconds
