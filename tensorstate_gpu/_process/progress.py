"""Progress: what long work tells, so that a program can show how far it is."""

from typing import Protocol


class Progress(Protocol):
    """Called with what is done so far, and with all there is to do where that is known."""

    def __call__(self, done: int, total: int = ..., /) -> object: ...
