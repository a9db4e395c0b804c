"""Record: the commit record, one JSON document that alone defines what a store contains.

It is the attribute ``tensorstate`` of the group's zarr.json. It contains a checksum of the whole
document and is replaced atomically. Chunks are written before the record, shapes of arrays after
it.
"""

import dataclasses
from typing import Any, TypeVar

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._layers.batches import Batches, is_unassigned, totals
from tensorstate_gpu._layers.layer_facts import LayerFacts
from tensorstate_gpu._layers.numbered_keys import numbered_bytes
from tensorstate_gpu.errors import DamagedStore, NoStore, UnknownFormat
from tensorstate_gpu.store.array_record import ArrayRecord, validated_count, validated_integer
from tensorstate_gpu.store.counts_entry import CountsEntry, RunRecord
from tensorstate_gpu.store.documents import (
    ATTRIBUTE,
    COUNTS_ATTRIBUTE,
    KEY,
    check_document,
    group_attribute,
    group_document,
)
from tensorstate_gpu.store.keys import LABELS, LEDGERS, UNITS, run_key, state_key

Value = TypeVar("Value")

FORMAT = 3
COUNTS_FORMAT = 4  # where layers keep counts: older releases do not know them
READABLE_FORMATS = (2, FORMAT, COUNTS_FORMAT)  # what they differ in: docs/store.md


@dataclasses.dataclass(frozen=True, slots=True)
class LayerRecord:
    """What is committed of one layer.

    ``capture``: how the states were captured, as JSON: neuron_axis, and threshold or firing.
    ``batches``: the end of the ledger, as pairs (instances, states per instance) in order;
    consecutive batches with equal states per instance are merged. _layers/batches.py says how
    states that belong to no known instance are listed; ``unassigned`` is their number.
    ``labels``, ``units``: those of the instances, in order, or None.
    ``ledger``: the earlier batches, or None if ``batches`` are all.
    ``facts``: what is known of the layer besides its states; an optional field.
    ``counts``: of a layer that keeps counts: those. It has no rows in ``states``, and no notes.
    """

    neurons: int
    capture: dict[str, Any]
    instances: int
    batches: Batches
    states: ArrayRecord
    labels: ArrayRecord | None
    ledger: ArrayRecord | None = None
    units: ArrayRecord | None = None
    unassigned: int = 0
    facts: LayerFacts = dataclasses.field(default_factory=LayerFacts)
    counts: CountsEntry | None = None

    @property
    def rows(self) -> int:
        """The number of rows: those that are kept, or those that were counted."""
        return self.states.rows if self.counts is None else self.counts.total

    @property
    def run_arrays(self) -> list[ArrayRecord]:
        """The arrays of all sorted runs, of a layer that keeps counts."""
        runs = () if self.counts is None else self.counts.runs
        return [array for run in runs for array in run.arrays.values()]

    def run_bytes(self, run: RunRecord) -> int:
        """Return the bytes of each row of a sorted run of this layer."""
        return numbered_bytes(self.row_bytes) if run.numbered else self.row_bytes

    @property
    def keep(self) -> str:
        """ "states" or "counts"."""
        return "states" if self.counts is None else "counts"

    @property
    def groups(self) -> int | None:
        """For how many groups of instances the layer was captured, if that was given."""
        groups: int | None = self.capture.get("groups")
        return groups

    @property
    def row_bytes(self) -> int:
        return row_bytes(self.neurons)

    @property
    def notes(self) -> dict[str, ArrayRecord | None]:
        """The labels and the units."""
        return {"labels": self.labels, "units": self.units}

    @property
    def noted(self) -> dict[str, int]:
        """How many instances have labels, and units."""
        if self.counts is not None:
            return dict(self.counts.noted)
        return {what: 0 if array is None else array.rows for what, array in self.notes.items()}

    @property
    def states_per_instance(self) -> int | None:
        """States of each instance; None if instances differ, are unknown, or there are none."""
        if any(map(is_unassigned, self.batches)):
            return None
        sizes = {per_instance for _, per_instance in self.batches}
        return sizes.pop() if len(sizes) == 1 and self.ledger is None else None

    def to_json(self) -> dict[str, Any]:
        facts = self.facts.to_json()
        return {
            "neurons": self.neurons,
            "capture": self.capture,
            "instances": self.instances,
            "batches": self.batches,
            "states": self.states.to_json(),
            "labels": None if self.labels is None else self.labels.to_json(),
            "ledger": None if self.ledger is None else self.ledger.to_json(),
            "units": None if self.units is None else self.units.to_json(),
            "unassigned": self.unassigned,
            **({"facts": facts} if facts else {}),
            **({} if self.counts is None else {"counts": self.counts.to_json()}),
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "LayerRecord":
        batches = tuple(
            (validated_count(count), validated_integer(each)) for count, each in found["batches"]
        )
        instances = found["instances"] if "ledger" in found else totals(batches)[0]  # format 2
        layer = cls(
            neurons=validated_count(found["neurons"]),
            capture=dict(found["capture"]),
            instances=validated_count(instances),
            batches=batches,
            states=ArrayRecord.from_json(found["states"]),
            labels=_optional_array(found["labels"]),
            ledger=_optional_array(found.get("ledger")),
            units=_optional_array(found.get("units")),
            unassigned=validated_count(found.get("unassigned", 0)),
            facts=LayerFacts.from_json(dict(found.get("facts", {}))),
            counts=CountsEntry.from_json(found["counts"]) if "counts" in found else None,
        )
        layer.check()
        return layer

    def check(self) -> None:
        """Raise ValueError if the number of rows does not match the ledger, as far as it is here.

        read_batches() checks the whole ledger.
        """
        instances, expected, unassigned = found = totals(self.batches)
        due = self.instances, self.rows, self.unassigned
        if self.ledger is None:
            fits = found == due
        else:
            fits = all(part <= whole for part, whole in zip(found, due, strict=True))
        if self.neurons < 1 or not fits:
            raise ValueError(
                f"{self.rows} rows of {self.neurons} neurons and {self.instances} "
                f"instances, {self.unassigned} rows unassigned; {expected} rows of {instances} "
                f"instances due, {unassigned} unassigned"
            )


def _optional_array(found: dict[str, Any] | None) -> ArrayRecord | None:
    return None if found is None else ArrayRecord.from_json(found)


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """Everything that is committed. A layer is None until its first batch is committed.

    ``format``: that of the record that was read.
    ``closed``: whether the last writer has ended properly, with everything that it captured. False
    while it is at work, and for good if it was killed; None if the record does not say.
    ``run``: of the store and its copies, a name that no other store has. ``writer``: the same of
    the last writer. ``captures``: which layers were captured together, if not all were.
    """

    version: str  # of the library that wrote the store
    started: str
    committed: str | None = None  # ISO 8601, UTC; None before the first commit
    commits: int = 0
    layers: dict[str, LayerRecord | None] = dataclasses.field(default_factory=dict)
    format: int = FORMAT
    closed: bool | None = None
    run: str | None = None
    writer: str | None = None
    captures: tuple[tuple[str, ...], ...] = ()

    @property
    def groups(self) -> list[str]:
        """Keys of the groups inside the store: of labels, units, ledgers and kept counts."""
        layers = [layer for layer in self.layers.values() if layer is not None]
        present = {
            LABELS: any(layer.labels is not None for layer in layers),
            UNITS: any(layer.units is not None for layer in layers),
            LEDGERS: any(layer.ledger is not None for layer in layers),
        }
        groups = [group for group, is_present in present.items() if is_present]
        for name, layer in self.layers.items():
            if layer is not None and layer.counts is not None:
                groups.append(state_key(name))
                groups += [run_key(name, run.number) for run in layer.counts.runs]
        return groups

    @property
    def written_format(self) -> int:
        """The format in which the record is written."""
        keeps_counts = any(layer and layer.counts is not None for layer in self.layers.values())
        return COUNTS_FORMAT if keeps_counts else FORMAT

    @property
    def chunk_count(self) -> int:
        """How many chunks are committed, of all arrays."""
        arrays = [
            array
            for layer in self.layers.values()
            if layer is not None
            for array in (layer.states, layer.ledger, *layer.notes.values(), *layer.run_arrays)
        ]
        return sum(len(array.checksums) for array in arrays if array is not None)

    def facts_of(self, name: str) -> LayerFacts | None:
        """Return what is known of a layer besides its states; None if nothing is.

        A layer of which nothing is committed has run in none of the passes that were.
        """
        layers = [layer for layer in self.layers.values() if layer is not None]
        committed = self.layers.get(name)
        if committed is not None:
            return committed.facts
        passes = [layer.facts.passes[1] for layer in layers if layer.facts.passes is not None]
        return LayerFacts(passes=(0, max(passes))) if passes else None

    def to_bytes(self) -> bytes:
        about = {
            "format": self.written_format,
            "version": self.version,
            "started": self.started,
            "committed": self.committed,
            "commits": self.commits,
            "closed": self.closed,
            "run": self.run,
            "writer": self.writer,
            "layers": {
                name: None if layer is None else layer.to_json()
                for name, layer in self.layers.items()
            },
            **({"captures": self.captures} if self.captures else {}),
        }
        return group_document({ATTRIBUTE: about})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "Record":
        """Parse a record. Raises ValueError if it is none, of another format, or damaged."""
        about = _record_attribute(data, where)
        if about.get("format") not in READABLE_FORMATS:
            readable = ", ".join(map(str, READABLE_FORMATS))
            raise UnknownFormat(
                f"{where} has format {about.get('format')}, this version reads {readable}; "
                f"it was written by tensorstate_gpu {about.get('version')}"
            )
        check_document(data, f"{where}/{KEY}")
        try:
            return cls(
                version=about["version"],
                started=about["started"],
                committed=about["committed"],
                commits=validated_count(about["commits"]),
                layers={
                    name: None if layer is None else LayerRecord.from_json(layer)
                    for name, layer in about["layers"].items()
                },
                format=about["format"],
                closed=_optional(bool, about.get("closed")),
                run=_optional(str, about.get("run")),
                writer=_optional(str, about.get("writer")),
                captures=tuple(tuple(map(str, names)) for names in about.get("captures", ())),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DamagedStore(f"{where}/{KEY} is damaged: {error!r}") from error


def _record_attribute(data: bytes, where: str) -> dict[str, Any]:
    about = group_attribute(data, ATTRIBUTE, where)
    if about is None:
        counts = f'"{COUNTS_ATTRIBUTE}"'.encode() in data
        told = ": it holds counts, which store.open_counts() reads" if counts else ""
        raise NoStore(f"{where} holds no captured states{told}")
    return about


def _optional(kind: type[Value], found: object) -> Value | None:
    if found is None or isinstance(found, kind):
        return found
    raise ValueError(f"{found!r} is not a {kind.__name__}")
