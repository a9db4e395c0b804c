"""A store in an object store (S3, GCS, Azure, ...) through obstore, which has their protocols."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

try:
    import obstore
    from obstore.exceptions import BaseError, NotFoundError
    from obstore.store import from_url
except ImportError as error:
    raise ImportError(
        "stores at URLs need obstore: pip install 'tensorstate_gpu[objects]'"
    ) from error

Result = TypeVar("Result")


class Bucket:
    """Objects by key. One writer at a time is the user's duty: object stores have no locks.

    ``objects``: an obstore store, with a prefix if the run lies below the bucket's root.
    """

    def __init__(self, objects: Any, name: str | None = None) -> None:
        self._objects = objects
        self._name = repr(objects) if name is None else name

    @classmethod
    def from_url(cls, url: str) -> "Bucket":
        """The objects below a URL; credentials come from the environment, as with other clients."""
        try:
            return cls(from_url(url), url)
        except (BaseError, ValueError) as error:
            raise ValueError(f"{url} is no URL that a store can have: {error}") from error

    def __str__(self) -> str:
        return self._name

    def read(self, key: str) -> bytes:
        return bytes(self._ask(lambda: obstore.get(self._objects, key).bytes()))

    def write(self, key: str, data: bytes) -> None:
        self._ask(lambda: obstore.put(self._objects, key, data))

    def delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._ask(lambda: obstore.delete(self._objects, key))

    def list_keys(self, under: str = "") -> list[str]:
        def listed() -> list[str]:
            pieces = obstore.list(self._objects, prefix=under or None)
            return sorted(found["path"] for piece in pieces for found in piece)

        return self._ask(listed)

    def is_taken(self) -> bool:
        return bool(self.list_keys())

    def exists(self) -> bool:
        return True

    def sync(self) -> None:
        """Nothing to do: an object is durable once its store has answered."""

    def claim(self) -> None:
        """Nothing to do: see the class."""

    def release(self) -> None:
        """Nothing to do: see the class."""

    def _ask(self, question: Callable[[], Result]) -> Result:
        try:
            return question()
        except (NotFoundError, FileNotFoundError) as error:
            raise FileNotFoundError(f"{self}: {error}") from error
        except BaseError as error:
            raise OSError(f"{self}: {error}") from error
