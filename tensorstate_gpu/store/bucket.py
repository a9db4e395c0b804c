"""A store in an object store (S3, GCS, Azure, ...) through obstore, which has their protocols."""

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
    raise ImportError(
        "stores at URLs need obstore: pip install 'tensorstate_gpu[objects]'"
    ) from error

from tensorstate_gpu.store.folder import Buffer

Result = TypeVar("Result")

_STORES = (AzureStore, GCSStore, HTTPStore, LocalStore, MemoryStore, S3Store)
_LONGEST_WORDS = 500


class Bucket:
    """Objects by key. One writer at a time is the user's duty: object stores have no locks.

    ``objects``: an obstore store, with a prefix if the run lies below the bucket's root.
    """

    def __init__(self, objects: Any, name: str | None = None) -> None:
        if not isinstance(objects, _STORES):
            raise TypeError(
                "a store's path must be a str, a path or one of obstore.store "
                f"({', '.join(store.__name__ for store in _STORES)}), got {type(objects).__name__}"
            )
        self._objects: Any = objects
        self._name = _where(objects) or name or repr(objects)
        self.writers = 8  # each request takes tens of milliseconds, most of them on the way

    @classmethod
    def from_url(cls, url: str) -> "Bucket":
        """The objects below a URL; credentials come from the environment, as with other clients."""
        plain: Any = {"client_options": {"allow_http": True}} if url.startswith("http:") else {}
        try:
            return cls(from_url(url, **plain), url)
        except (BaseError, ValueError) as error:
            raise ValueError(f"no store can be opened at {url}: {_words(error)}") from None

    def __str__(self) -> str:
        return self._name

    def read(self, key: str) -> bytes:
        return bytes(self._ask(lambda: obstore.get(self._objects, key).bytes()))

    def write(self, key: str, *parts: Buffer) -> None:
        data = b"".join(parts)
        self._ask(lambda: obstore.put(self._objects, key, data))

    def delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._ask(lambda: obstore.delete(self._objects, key))

    def sizes(self, under: str = "") -> dict[str, int]:
        def listed() -> dict[str, int]:
            pieces = obstore.list(self._objects, prefix=under or None)
            found = {one["path"]: one["size"] for piece in pieces for one in piece}
            found.pop("", None)  # what makes the prefix look like a folder
            return dict(sorted(found.items()))

        return self._ask(listed)

    def is_taken(self) -> bool:
        def any_listed() -> bool:
            pieces = obstore.list(self._objects, chunk_size=2)
            return any(found["path"] for piece in pieces for found in piece)

        return self._ask(any_listed)

    def exists(self) -> bool:
        return True

    def sync(self) -> None:
        """Nothing to do: an object is durable once its store has answered."""

    def claim(self) -> None:
        """Nothing to do: see the class."""

    def release(self) -> None:
        """Nothing to do: see the class."""

    def _ask(self, question: Callable[[], Result]) -> Result:
        """The answer; FileNotFoundError for a missing object, OSError for all else."""
        # obstore's messages end in dumps of 40 lines: they are cut, and not shown as the cause.
        try:
            return question()
        except (NotFoundError, FileNotFoundError) as error:
            text = _words(error)
            kind = OSError if _no_bucket.search(text) else FileNotFoundError
            raise kind(f"{self}: {text}") from None
        except BaseError as error:
            raise OSError(f"{self}: {_words(error)}") from None


_no_bucket = re.compile(r"\b(NoSuchBucket|ContainerNotFound)\b")
_asks_the_machine = re.compile(r"token request|/latest/api/token|/latest/meta-data")


def _where(objects: Any) -> str | None:
    """A URL that says where objects lie, also from one server to another; None for other kinds."""
    if not isinstance(objects, (GCSStore, S3Store)):
        return None
    config: Any = objects.config
    server = config.get("endpoint", "").rstrip("/")
    scheme = "s3:/" if isinstance(objects, S3Store) else "gs:/"
    parts = (server or scheme, config.get("bucket"), objects.prefix)
    return "/".join(part for part in parts if part)


def _words(error: BaseException) -> str:
    """What obstore says, in a line: what the server answered, or what became of the connection."""
    text, _, details = str(error).partition("\n\nDebug source:")
    if answer := re.search(r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>", text, re.DOTALL):
        text = f"{text.partition('<')[0]}{unescape(answer[1])}: {unescape(answer[2])}"
    elif cause := re.search(r'message: "([^"]+)"', details):
        text = f"{text} ({cause[1]})"
    elif "BadScheme" in details:
        text += " (plain http must be allowed: AWS_ALLOW_HTTP=true, or allow_http of obstore)"
    text = " ".join(text.split())[:_LONGEST_WORDS]
    if _asks_the_machine.search(text):
        text = f"there are no credentials in the environment, nor from the machine: {text}"
    return text
