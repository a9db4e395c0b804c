"""Names of layers as keys of a zarr group, which are also names of folders."""

from hashlib import sha256
from urllib.parse import quote

LABELS = "labels"  # the group that contains the arrays of labels
LEDGERS = "_ledger"  # the same for ledgers; a layer's key does not begin with an underscore
UNITS = "_units"  # the same for units
_GROUP_OF_NOTES = {"labels": LABELS, "units": UNITS}
_LONGEST_NAME = 255  # bytes of a file name on Linux, macOS and Windows


def state_key(name: str) -> str:
    """Return the key of a layer's rows: without slashes, leading dots and underscores.

    Raises ValueError for a name that is too long for a folder.
    """
    escaped = quote(name, safe=" ()+,-=@[]")
    if escaped[0] in "._" or escaped in ("zarr.json", LABELS):
        escaped = f"%{ord(escaped[0]):02X}{escaped[1:]}"
    if len(escaped) > _LONGEST_NAME:
        raise ValueError(
            f"a layer on disk has a name of at most {_LONGEST_NAME} bytes, got {len(escaped)}: "
            f"{escaped[:40]}..."
        )
    return escaped


def why_not_on_windows(key: str) -> str | None:
    """Return why Windows cannot have a folder of this name; None if it can.

    >>> why_not_on_windows("aux.0_post_states")
    "'aux' is a device there"
    """
    # https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file
    device = key.partition(".")[0].rstrip()
    if device.upper() in _DEVICES:
        return f"{device!r} is a device there"
    if key[-1] in ". ":
        return "names do not end with dots or spaces there"
    return None


_DEVICES = {"CON", "PRN", "AUX", "NUL"} | {
    f"{port}{n}" for port in ("COM", "LPT") for n in range(10)
}


def file_name(name: str, suffix: str) -> str:
    """Return the name of a file about a layer: its key and a suffix.

    A key may be so long that there is no room for a suffix. It then ends with a hash of the name,
    so that layers whose names begin alike have files of their own.
    """
    key = state_key(name)
    if len(key) + len(suffix) > _LONGEST_NAME:
        told_apart = f"~{sha256(name.encode()).hexdigest()[:16]}"
        key = key[: _LONGEST_NAME - len(told_apart) - len(suffix)] + told_apart
    return key + suffix


def run_key(name: str, number: int) -> str:
    """Return the key of a sorted run of a layer that keeps counts."""
    return f"{state_key(name)}/{number}"


def note_key(what: str, name: str) -> str:
    """Return the key of the labels of a layer's instances, or of their units."""
    return f"{_GROUP_OF_NOTES[what]}/{state_key(name)}"


def ledger_key(name: str) -> str:
    """Return the key of a layer's ledger."""
    return f"{LEDGERS}/{state_key(name)}"


def layer_keys(name: str) -> tuple[str, ...]:
    """Return the keys of all arrays of a layer: states, labels, units and ledger."""
    notes = (note_key(what, name) for what in _GROUP_OF_NOTES)
    return state_key(name), *notes, ledger_key(name)
