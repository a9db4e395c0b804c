"""The commit record: one document that says what a store holds. What it does not list is not there.

It is the attribute ``tensorstate`` of the group's zarr.json, which is replaced atomically, and
carries a checksum of the whole document. Chunks are written before it; array shapes follow it.
"""

import base64
import dataclasses
import json
from typing import Any

import google_crc32c
import numpy as np

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu.errors import DamagedStore, NoStore, UnknownFormat

FORMAT = 2
KEY = "zarr.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Committed:
    """What is committed of one array.

    ``chunk_rows``: rows of a whole chunk. ``checksums``: CRC-32C of the committed values of each
    chunk; of the last, possibly partial one more values may be written than are committed.
    """

    rows: int
    chunk_rows: int
    checksums: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        packed = np.array(self.checksums, "<u4").tobytes()
        return {
            "rows": self.rows,
            "chunk_rows": self.chunk_rows,
            "crc32c": base64.b64encode(packed).decode(),
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Committed":
        packed = np.frombuffer(base64.b64decode(found["crc32c"], validate=True), "<u4")
        rows, chunk_rows = _natural(found["rows"]), _natural(found["chunk_rows"])
        if chunk_rows < 1 or len(packed) != -(-rows // chunk_rows):
            raise ValueError(f"{rows} rows in chunks of {chunk_rows}, {len(packed)} checksums")
        return cls(rows, chunk_rows, tuple(packed.tolist()))


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """What is committed of one capture point.

    ``capture``: how its states came about (neuron_axis, threshold or firing), as JSON.
    ``batches``: the ledger: (instances, states per instance), batch after batch, equal ones joined.
    ``labels``: the labels of instances, in order; None when no instance has one.
    """

    neurons: int
    capture: dict[str, Any]
    batches: tuple[tuple[int, int], ...]
    states: Committed
    labels: Committed | None

    @property
    def row_bytes(self) -> int:
        return row_bytes(self.neurons)

    @property
    def instances(self) -> int:
        return sum(instances for instances, _ in self.batches)

    @property
    def states_per_instance(self) -> int | None:
        """States that each instance gave; None where instances differ, or there are none."""
        sizes = {per_instance for _, per_instance in self.batches}
        return sizes.pop() if len(sizes) == 1 else None

    def to_json(self) -> dict[str, Any]:
        return {
            "neurons": self.neurons,
            "capture": self.capture,
            "batches": self.batches,
            "states": self.states.to_json(),
            "labels": None if self.labels is None else self.labels.to_json(),
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Layer":
        labels = found["labels"]
        layer = cls(
            _natural(found["neurons"]),
            dict(found["capture"]),
            tuple((_natural(count), _natural(each)) for count, each in found["batches"]),
            Committed.from_json(found["states"]),
            None if labels is None else Committed.from_json(labels),
        )
        layer.check()
        return layer

    def check(self) -> None:
        """ValueError where rows and ledger do not agree."""
        due = sum(count * each for count, each in self.batches)
        if self.neurons < 1 or due != self.states.rows:
            raise ValueError(f"{self.states.rows} rows of {self.neurons} neurons, {due} due")


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """All that is committed. A layer is None until its first batch is committed."""

    version: str  # of the library that wrote it
    started: str
    committed: str | None = None  # ISO 8601, UTC; None before the first commit
    commits: int = 0
    layers: dict[str, Layer | None] = dataclasses.field(default_factory=dict)

    @property
    def has_labels(self) -> bool:
        """Whether there is a group of labels."""
        return any(layer is not None and layer.labels is not None for layer in self.layers.values())

    def to_bytes(self) -> bytes:
        about = {
            "format": FORMAT,
            "version": self.version,
            "started": self.started,
            "committed": self.committed,
            "commits": self.commits,
            "layers": {
                name: None if layer is None else layer.to_json()
                for name, layer in self.layers.items()
            },
        }
        return group_document({"tensorstate": about})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "Record":
        """ValueError for what is no record, one of another format, or a damaged one."""
        about = _about(data, where)
        if about.get("format") != FORMAT:
            raise UnknownFormat(
                f"{where} has format {about.get('format')}, this version reads {FORMAT}; "
                f"it was written by tensorstate_gpu {about.get('version')}"
            )
        check_document(data, f"{where}/{KEY}")
        try:
            return cls(
                about["version"],
                about["started"],
                about["committed"],
                _natural(about["commits"]),
                {
                    name: None if layer is None else Layer.from_json(layer)
                    for name, layer in about["layers"].items()
                },
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DamagedStore(f"{where}/{KEY} is damaged: {error!r}") from error


def _about(data: bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedStore(f"{where}/{KEY} is damaged: {error}") from error
    try:
        about = document["attributes"]["tensorstate"]
        if document["node_type"] != "group" or not isinstance(about, dict):
            raise TypeError("no group")
    except (KeyError, TypeError) as error:
        raise NoStore(f"{where} holds no captured states") from error
    return about


def group_document(attributes: dict[str, Any]) -> bytes:
    """The zarr.json of a group."""
    return sealed({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def sealed(document: dict[str, Any]) -> bytes:
    """A zarr.json with an attribute ``checksum`` of all of it."""
    attributes = {**document.get("attributes", {}), "checksum": ""}
    document = {**document, "attributes": attributes}
    attributes["checksum"] = _checksum(document)
    return json.dumps(document, separators=(",", ":")).encode()


def check_document(data: bytes, name: str) -> dict[str, Any]:
    """The zarr.json that sealed() wrote; ValueError when a bit of it has changed."""
    try:
        document: dict[str, Any] = json.loads(data)
        attributes = document["attributes"]
        found, attributes["checksum"] = attributes["checksum"], ""
        whole = found == _checksum(document)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedStore(f"{name} is damaged: {error!r}") from error
    if not whole:
        raise DamagedStore(f"{name} is damaged: its checksum does not fit")
    return document


def _checksum(document: dict[str, Any]) -> str:
    # Written by others (formatted, keys sorted) it means the same.
    plain = {key: value for key, value in document.items() if key != "consolidated_metadata"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return f"{google_crc32c.value(text.encode()):08x}"


def _natural(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"{number!r} is no count")
    return number
