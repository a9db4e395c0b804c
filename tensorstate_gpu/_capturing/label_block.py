"""LabelBlock: the labels of all forward passes inside a ``with`` block."""

import threading
from collections.abc import Callable, Iterable
from typing import Protocol


class LabelScope(threading.local):
    """The labels that hold in this thread, or None."""

    labels: object = None


class Labelled(Protocol):
    """A capture point."""

    def begin_labels(self, labels: object) -> object:
        """Let labels hold in this thread, and return those that held before."""


class LabelBlock:
    """What ``run.labels(y)`` returns: in a ``with`` statement, the labels hold for the block.

    ``points``: returns the capture points; more may appear in the block.
    """

    def __init__(self, points: Callable[[], Iterable[Labelled]], labels: object) -> None:
        self._points, self._labels = points, labels
        self._before: object = None

    def __enter__(self) -> None:
        for point in self._points():
            self._before = point.begin_labels(self._labels)

    def __exit__(self, *error: object) -> None:
        for point in self._points():
            point.begin_labels(self._before)
