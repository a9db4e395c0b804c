"""Bucket: a store in an object store (S3, GCS, Azure, ...), through obstore."""

import contextlib
import re
from collections.abc import Callable
from html import unescape
from typing import Any, TypeVar

try:
    import obstore
    from obstore.exceptions import BaseError, NotFoundError
    from obstore.store import (
        AzureStore,
        GCSStore,
        HTTPStore,
        LocalStore,
        MemoryStore,
        S3Store,
        from_url,
    )
except ImportError as error:
    raise ImportError("stores at URLs need obstore: pip install obstore") from error

from tensorstate_gpu.store.documents import KEY
from tensorstate_gpu.store.folder import Buffer
from tensorstate_gpu.store.owned_objects import OwnedObjects

Result = TypeVar("Result")

_STORES = (AzureStore, GCSStore, HTTPStore, LocalStore, MemoryStore, S3Store)
_MAX_MESSAGE_LENGTH = 500


class Bucket:
    """The objects of a store, by key.

    Object stores have no locks: of two writers, the one that opens the store last owns it, and the
    other gets an error when it writes next. ``objects``: an obstore store; its prefix is the path
    of the run in the bucket.
    """

    def __init__(self, objects: Any, name: str | None = None) -> None:
        if not isinstance(objects, _STORES):
            raise TypeError(
                "a store's path must be a str, a path or one of obstore.store "
                f"({', '.join(store.__name__ for store in _STORES)}), got {type(objects).__name__}"
            )
        self._objects: Any = objects
        self._name = _url_of(objects) or name or repr(objects)
        self._owned: OwnedObjects | None = None  # while this is a writer
        self.writer_threads = 8  # a request takes tens of milliseconds, most of it network latency

    @classmethod
    def from_url(cls, url: str) -> "Bucket":
        """Return the objects below a URL. Credentials come from the environment."""
        plain: Any = {"client_options": {"allow_http": True}} if url.startswith("http:") else {}
        try:
            return cls(from_url(url, **plain), url)
        except (BaseError, ValueError) as error:
            raise ValueError(f"no store can be opened at {url}: {_short_message(error)}") from None

    def __str__(self) -> str:
        return self._name

    def __reduce__(self) -> tuple[type["Bucket"], tuple[Any, str]]:
        return Bucket, (self._objects, self._name)

    def read(self, key: str) -> bytes:
        return bytes(self._call(lambda: obstore.get(self._objects, key).bytes()))

    def write(self, key: str, *parts: Buffer) -> None:
        data, owned = b"".join(parts), self._owned
        if owned is None:
            self._call(lambda: obstore.put(self._objects, key, data))
        else:
            self._call(lambda: owned.write(key, data))

    def delete(self, key: str) -> None:
        owned = self._owned
        with contextlib.suppress(FileNotFoundError):
            if owned is None:
                self._call(lambda: obstore.delete(self._objects, key))
            else:
                self._call(lambda: owned.delete(key))

    def list_sizes(self, under: str = "") -> dict[str, int]:
        def list_objects() -> dict[str, int]:
            pieces = obstore.list(self._objects, prefix=under or None)
            found = {one["path"]: one["size"] for piece in pieces for one in piece}
            found.pop("", None)  # the object that makes the prefix look like a folder
            return dict(sorted(found.items()))

        return self._call(list_objects)

    def list_folders(self) -> list[str]:
        found = self._call(lambda: obstore.list_with_delimiter(self._objects))
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"])

    def ignores_case(self) -> bool:
        return False

    def check_key(self, key: str) -> None:
        """Nothing to check: any name is a key."""

    def has_content(self) -> bool:
        def has_any_key() -> bool:
            pieces = obstore.list(self._objects, chunk_size=2)
            return any(found["path"] for piece in pieces for found in piece)

        return self._call(has_any_key)

    def exists(self) -> bool:
        return True

    def sync(self) -> None:
        """Nothing to do: an object is durable when the request has succeeded."""

    def claim(self) -> None:
        """Own the objects, once the next write of the record has succeeded.

        That raises StoreInUse if another writer comes in between.
        """
        self._owned = self._call(lambda: OwnedObjects(self._objects, KEY, str(self)))

    def release(self) -> None:
        """Nothing to do: the next writer owns the objects from its first write on."""

    def delete_created_folders(self) -> None:
        """Nothing to do: there are no folders."""

    def _call(self, request: Callable[[], Result]) -> Result:
        """Run a request. Raises FileNotFoundError for a missing object, else OSError."""
        # Messages of obstore end in dumps of 40 lines: shorten them, and hide the original error.
        try:
            return request()
        except (NotFoundError, FileNotFoundError) as error:
            text = _short_message(error)
            kind = OSError if _no_bucket.search(text) else FileNotFoundError
            raise kind(f"{self}: {text}") from None
        except BaseError as error:
            raise OSError(f"{self}: {_short_message(error)}") from None


_no_bucket = re.compile(r"\b(NoSuchBucket|ContainerNotFound)\b")
_metadata_request = re.compile(r"token request|/latest/api/token|/latest/meta-data")


def _url_of(objects: Any) -> str | None:
    """Return the URL of the objects, including a custom server; None for other kinds of stores."""
    if not isinstance(objects, (GCSStore, S3Store)):
        return None
    config: Any = objects.config
    server = config.get("endpoint", "").rstrip("/")
    scheme = "s3:/" if isinstance(objects, S3Store) else "gs:/"
    parts = (server or scheme, config.get("bucket"), objects.prefix)
    return "/".join(part for part in parts if part)


def _short_message(error: BaseException) -> str:
    """Return an error of obstore as one line: the answer of the server, or the connection error."""
    text, _, details = str(error).partition("\n\nDebug source:")
    if answer := re.search(r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>", text, re.DOTALL):
        text = f"{text.partition('<')[0]}{unescape(answer[1])}: {unescape(answer[2])}"
    elif cause := re.search(r'message: "([^"]+)"', details):
        text = f"{text} ({cause[1]})"
    elif "BadScheme" in details:
        text += " (plain http must be allowed: AWS_ALLOW_HTTP=true, or allow_http of obstore)"
    text = " ".join(text.split())[:_MAX_MESSAGE_LENGTH]
    if _metadata_request.search(text):
        text = f"there are no credentials in the environment, nor from the machine: {text}"
    return text
