"""Rewinding a store: what its record lists after it has forgotten the last inputs."""

import dataclasses
from collections.abc import Mapping

from tensorstate_gpu._arguments import integer
from tensorstate_gpu._layers.batches import Batch, first, is_unassigned, totals
from tensorstate_gpu._layers.instance_notes import NOTES
from tensorstate_gpu._layers.ledger import Position
from tensorstate_gpu.errors import InputsUnknown, RowsNotKept
from tensorstate_gpu.store.array_record import ArrayRecord
from tensorstate_gpu.store.chunks import checksum
from tensorstate_gpu.store.columns import ArrayReader
from tensorstate_gpu.store.commit_record import LayerRecord, Record
from tensorstate_gpu.store.documents import with_checksum
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.keys import ledger_key, note_key, state_key
from tensorstate_gpu.store.ledger_array import COLUMNS, read_batches
from tensorstate_gpu.store.verification import committed_arrays, committed_keys


def rewound(files: Files, record: Record, instances: int | Mapping[str, int]) -> Record:
    """Return a record of the first ``instances`` of each layer; chunks are read, none is written.

    ``instances``: one number, or one for each layer. Raises TypeError or ValueError if they are no
    numbers of inputs that the layers have, or if layers need numbers of their own.
    """
    layers = dict(record.layers)
    for name, count in _numbers(files, record, instances).items():
        layer = record.layers[name]
        layers[name] = None if layer is None else _first_instances(files, name, layer, count)
    return dataclasses.replace(record, layers=layers)


def position_in(record: Record, name: str) -> Position:
    """Return how much of a layer a record lists."""
    layer = record.layers.get(name)
    if layer is None:
        return Position(0, 0, dict.fromkeys(NOTES, 0))
    return Position(layer.instances, layer.rows, layer.noted)


def _numbers(files: Files, record: Record, instances: int | Mapping[str, int]) -> dict[str, int]:
    layers = {name: layer for name, layer in record.layers.items() if layer is not None}
    if isinstance(instances, Mapping):
        if instances.keys() != layers.keys():
            raise ValueError(
                f"instances must have a number for each of the layers {list(layers)}, got "
                f"{list(instances)}"
            )
        return {name: _count(number) for name, number in instances.items()}
    number = _count(instances)
    if partly := [name for name, layer in layers.items() if not layer.facts.runs_always]:
        raise ValueError(
            f"{files}: {partly} ran in some passes only, so one number does not tell their inputs; "
            "pass a dict with the instance_count of each layer"
        )
    return dict.fromkeys(layers, number)


def _count(number: object) -> int:
    if (count := integer(number, "instances")) < 0:
        raise ValueError(f"instances must be 0 or more, got {count}")
    return count


def _first_instances(
    files: Files, name: str, layer: LayerRecord, instances: int
) -> LayerRecord | None:
    """Return the record of a layer after rewinding; None if nothing is left of it."""
    kept, rows, unassigned = _first_of_ledger(files, name, layer, instances)
    if not instances:
        return None
    if layer.counts is not None:
        return layer
    states = ArrayReader(files, state_key(name), layer.states, (layer.row_bytes,))
    notes = {
        what: _first_notes(files, note_key(what, name), array, layer.instances, instances)
        for what, array in layer.notes.items()
    }
    # The array has all batches but the last one, which the record has, and which may grow.
    listed = 0 if layer.ledger is None else min(layer.ledger.rows, len(kept) - 1)
    return dataclasses.replace(
        layer,
        instances=instances,
        batches=tuple(kept[listed:]),
        states=_first_rows(states, layer.states, rows),
        labels=notes["labels"],
        units=notes["units"],
        ledger=_first_batches(files, name, layer.ledger, listed),
        unassigned=unassigned,
    )


def _first_of_ledger(
    files: Files, name: str, layer: LayerRecord, instances: int
) -> tuple[list[Batch], int, int]:
    """Return the batches of the first instances, their rows, and how many of these are unassigned.

    Raises RowsNotKept, InputsUnknown or ValueError if the layer cannot end there.
    """
    if layer.counts is not None and instances < layer.instances:
        raise RowsNotKept(
            f"{files}: {name!r} keeps counts of {layer.instances:,} inputs: those of single inputs "
            f"cannot be forgotten, so it cannot be rewound to {instances:,}"
        )
    batches = read_batches(files, name, layer)
    if any(is_unassigned(batch) and not batch[0] for batch in batches):
        raise InputsUnknown(f"{files}: the number of inputs of {name!r} is not known")
    if instances > layer.instances:
        raise ValueError(
            f"{files}: {name!r} has {layer.instances:,} inputs, so it cannot be rewound to "
            f"{instances:,}; commit() before a checkpoint is saved"
        )
    kept = first(batches, instances, 0)
    count, rows, unassigned = totals(kept)
    if count != instances:
        raise InputsUnknown(
            f"{files}: {name!r} has {layer.unassigned:,} states of no known input, so it cannot be "
            f"rewound to {instances:,} inputs, which end within a pass"
        )
    return kept, rows, unassigned


def _first_notes(
    files: Files, key: str, notes: ArrayRecord | None, instances: int, kept: int
) -> ArrayRecord | None:
    """Return the labels of the first instances, or their units.

    If some instances have none, it is not known which, and nobody can read the others: one is
    missing afterwards, too.
    """
    if notes is None:
        return None
    rows = kept if notes.rows == instances else min(notes.rows, kept - 1)
    return _first_rows(ArrayReader(files, key, notes, ()), notes, rows) if rows else None


def _first_batches(
    files: Files, name: str, ledger: ArrayRecord | None, batches: int
) -> ArrayRecord | None:
    if ledger is None or not batches:
        return None
    reader = ArrayReader(files, ledger_key(name), ledger, (len(COLUMNS),))
    return _first_rows(reader, ledger, batches)


def _first_rows(reader: ArrayReader, committed: ArrayRecord, rows: int) -> ArrayRecord:
    """Return what a record says of the first rows of an array."""
    whole, rest = divmod(rows, committed.chunk_rows)
    checksums = committed.checksums[:whole]
    if rest:
        checksums += (checksum(reader.chunk(whole)[:rest]),)
    return ArrayRecord(rows, committed.chunk_rows, checksums)


def shrink_arrays(files: Files, record: Record, new: Record) -> None:
    """Let zarr clients see no more of each array than ``new`` lists, which is published next."""
    rows = {array.key: array.committed.rows for array in committed_arrays(files, new)}
    for array in committed_arrays(files, record):
        document = array.document()
        if (kept := rows.get(array.key, 0)) < document["shape"][0]:
            document = {**document, "shape": [kept, *document["shape"][1:]]}
            files.write(array.document_key, with_checksum(document))


def delete_forgotten(files: Files, record: Record, new: Record) -> None:
    """Delete the files that ``record`` lists, and ``new`` does not."""
    for key in sorted({*committed_keys(files, record)} - {*committed_keys(files, new)}):
        files.delete(key)
