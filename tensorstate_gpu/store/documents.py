"""The zarr.json of groups and arrays: JSON documents, each with a checksum of itself."""

import json
from typing import Any

import google_crc32c

from tensorstate_gpu.errors import DamagedStore

KEY = "zarr.json"
ATTRIBUTE = "tensorstate"  # of a store of states: its commit record
COUNTS_ATTRIBUTE = "tensorstate_counts"  # of a store of counts


def group_document(attributes: dict[str, Any]) -> bytes:
    """Return the zarr.json of a group."""
    return with_checksum({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def with_checksum(document: dict[str, Any]) -> bytes:
    """Return a zarr.json as bytes, with an attribute ``checksum`` of the whole document."""
    attributes = {**document.get("attributes", {}), "checksum": ""}
    document = {**document, "attributes": attributes}
    attributes["checksum"] = _checksum(document)
    return json.dumps(document, separators=(",", ":")).encode()


def group_attribute(data: bytes, attribute: str, where: str) -> dict[str, Any] | None:
    """Return an attribute of the group at ``where``; None for another document, or without it.

    Raises DamagedStore for what is no JSON.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedStore(f"{where}/{KEY} is damaged: {error}") from error
    try:
        found = document["attributes"][attribute] if document["node_type"] == "group" else None
    except (KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def check_document(data: bytes, name: str) -> dict[str, Any]:
    """Parse a zarr.json that with_checksum() made. Raises ValueError if a bit has changed."""
    try:
        document: dict[str, Any] = json.loads(data)
        attributes = document["attributes"]
        found, attributes["checksum"] = attributes["checksum"], ""
        intact = found == _checksum(document)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedStore(f"{name} is damaged: {error!r}") from error
    if not intact:
        raise DamagedStore(f"{name} is damaged: its checksum does not fit")
    return document


def _checksum(document: dict[str, Any]) -> str:
    # Independent of formatting and key order, which other programs may change.
    checked = {key: value for key, value in document.items() if key != "consolidated_metadata"}
    text = json.dumps(checked, sort_keys=True, separators=(",", ":"))
    return f"{google_crc32c.value(text.encode()):08x}"
