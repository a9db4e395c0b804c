"""Progress: the type of functions that long operations call to report progress."""

from typing import Protocol


class Progress(Protocol):
    """Called with the amount done so far and, if it is known, the total."""

    def __call__(self, done: int, total: int = ..., /) -> object: ...
