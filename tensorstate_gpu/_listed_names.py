"""ListedNames: classes of which dir() lists what users call, and not what other modules do."""

from collections.abc import Iterable
from typing import ClassVar


class ListedNames:
    """Base of classes that have methods for users, and others for the rest of the library.

    The site of the documentation shows the listed ones, as completion does: see docs/stability.md.
    """

    __slots__ = ()
    _listed: ClassVar[str] = ""  # names for users, of this class alone: each base lists its own

    def __dir__(self) -> Iterable[str]:
        listed = listed_names(type(self)) | _of_others(type(self))
        return [name for name in super().__dir__() if name.startswith("_") or name in listed]


def listed_names(kind: type) -> frozenset[str]:
    """Return the names for users that a class has: none where it doesn't say."""
    return frozenset(
        name for base in kind.__mro__ for name in vars(base).get("_listed", "").split()
    )


def _of_others(kind: type) -> frozenset[str]:
    """Return the names that classes outside this library add: a subclass of a user, say."""
    others = [base for base in kind.__mro__ if base.__module__.split(".")[0] != "tensorstate_gpu"]
    return frozenset(name for base in others for name in vars(base))
