"""OwnedObjects: writes the objects of a store only as long as no other writer has come.

Object stores have no locks, but conditional writes: create an object unless there is one
(If-None-Match), or replace it if it is still the version that is known (If-Match).
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    NotSupportedError,
    PreconditionError,
)

from tensorstate_gpu.store.folder_lock import taken_over

Version = dict[str, str]  # ``e_tag``, ``version`` or both, as the service has them

_ATTEMPTS = 5


class OwnedObjects:
    """The objects of one writer. The writer that has written the object ``record`` last owns them.

    An object that the owner finds is left from a writer that was killed, and is replaced. A writer
    that is no longer the owner gets StoreInUse, and replaces nothing. Where the service has no
    conditional writes, each write looks for another owner just before.
    """

    def __init__(self, objects: Any, record: str, name: str) -> None:
        self._objects: Any = objects
        self._record, self._name = record, name
        self._known: dict[str, Version | None] = {record: self._version_of(record)}
        # Digests of records that this writer has sent. The answer to one of them may be lost.
        self._sent: set[bytes] = set()

    def write(self, key: str, data: bytes) -> None:
        """Create or replace an object. Raises StoreInUse if another writer owns the store."""
        if key == self._record:
            self._sent.add(_digest(data))
        for _ in range(_ATTEMPTS):
            if (written := self._put(key, data, self._known.get(key))) is not None:
                self._known[key] = written
                return
            if key != self._record:
                # Before the owner is looked up: one that comes later changes the version, too,
                # unless it leaves the object as it is.
                self._known[key] = self._version_of(key)
            self.require_owner()
        raise taken_over(self._name)

    def delete(self, key: str) -> None:
        """Delete an object. Raises StoreInUse if another writer owns the store."""
        self.require_owner()
        obstore.delete(self._objects, key)
        self._known.pop(key, None)

    def require_owner(self) -> None:
        """Raise StoreInUse if another writer has written the record, or it was deleted."""
        if _same(self._version_of(self._record), self._known.get(self._record)):
            return
        try:
            found = obstore.get(self._objects, self._record)
        except (NotFoundError, FileNotFoundError):
            raise taken_over(self._name) from None
        if _digest(bytes(found.bytes())) not in self._sent:
            raise taken_over(self._name)
        self._known[self._record] = _version_in(found.meta)

    def _put(self, key: str, data: bytes, known: Version | None) -> Version | None:
        """Replace the known version of an object, or create it; return the new version.

        Return None, and write nothing, if another version is there.
        """
        mode: Any = "create" if known is None else known
        try:
            return _version_in(obstore.put(self._objects, key, data, mode=mode))
        except (AlreadyExistsError, PreconditionError):
            return None
        except (NotImplementedError, NotSupportedError):
            return self._put_after_look(key, data, known)
        except BaseError as error:
            if "NotImplemented" not in str(error):  # what S3 answers to headers it does not know
                raise
            return self._put_after_look(key, data, known)

    def _put_after_look(self, key: str, data: bytes, known: Version | None) -> Version | None:
        if not _same(self._version_of(key), known):
            return None
        return _version_in(obstore.put(self._objects, key, data))

    def _version_of(self, key: str) -> Version | None:
        try:
            return _version_in(obstore.head(self._objects, key))
        except (NotFoundError, FileNotFoundError):
            return None


def _version_in(found: Mapping[str, Any]) -> Version:
    return {kind: found[kind] for kind in ("e_tag", "version") if found[kind] is not None}


def _same(one: Version | None, other: Version | None) -> bool:
    if one is None or other is None:
        return one is other
    kind = "e_tag" if "e_tag" in one else "version"
    return one.get(kind) == other.get(kind)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
