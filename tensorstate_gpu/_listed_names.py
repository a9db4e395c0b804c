"""ListedNames: classes of which dir() lists what users call, and not what other modules do."""

from collections.abc import Iterable
from typing import ClassVar


class ListedNames:
    """Base of classes that have methods for users, and others for the rest of the library.

    The site of the documentation shows the listed ones, as completion does: see docs/stability.md.
    """

    __slots__ = ()
    _listed: ClassVar[frozenset[str]] = frozenset()  # for users: those of a class and of its bases

    def __dir__(self) -> Iterable[str]:
        listed = listed_names(type(self))
        return [name for name in super().__dir__() if name.startswith("_") or name in listed]


def listed_names(kind: type) -> frozenset[str]:
    """Return the names for users that a class has."""
    return frozenset().union(*(vars(base).get("_listed", ()) for base in kind.__mro__))
