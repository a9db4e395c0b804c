"""Committer: commits the partial chunks, then the record, then the arrays' shapes."""

import dataclasses
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from tensorstate_gpu.store.background_writer import SubmitJob
from tensorstate_gpu.store.commit_record import LayerRecord, Record
from tensorstate_gpu.store.documents import KEY, group_document
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.keys import layer_keys
from tensorstate_gpu.store.rewinding import shrink_arrays
from tensorstate_gpu.store.written_layer import Snapshot, WrittenLayer


class CommitSnapshot(NamedTuple):
    """What a commit will publish: all names of layers, and snapshots of those with rows.

    ``captures``: the names by capture, as in a Record. ``ends``: for the last commit, whether the
    writer ends properly; None for others.
    """

    names: list[str]
    layers: dict[str, tuple[WrittenLayer, Snapshot]]
    captures: tuple[tuple[str, ...], ...]
    ends: bool | None = None


class Committer:
    """Publishes commits one after the other, in background jobs. A failed job can be repeated.

    ``record``: the last published record. ``was_closed``: whether the store was, before the writer
    began.
    """

    def __init__(self, files: Files, record: Record, was_closed: bool | None) -> None:
        self.record = record
        self._found, self._was_closed = record.layers, was_closed
        self._files = files

    def submit(
        self, snapshot: CommitSnapshot, submit: SubmitJob, on_published: Callable[[], object]
    ) -> None:
        """Queue the jobs that publish a snapshot; ``on_published`` is called when it is published.

        Jobs that write files of layers run concurrently. The job that writes the record runs alone,
        after all chunks and before the arrays' metadata.
        """
        for layer, layer_snapshot in snapshot.layers.values():
            submit(partial(layer.write_partial_chunks, layer_snapshot), layer_snapshot.size())
        submit(partial(self._publish, snapshot, on_published), exclusive=True)
        for name, (layer, _) in snapshot.layers.items():
            submit(partial(self._update_metadata, name, layer))

    def _publish(self, snapshot: CommitSnapshot, on_published: Callable[[], object]) -> None:
        """Publish the record of a snapshot, unless it says what the last record says."""
        layers = {name: self.record.layers.get(name) for name in snapshot.names}
        for name, (layer, layer_snapshot) in snapshot.layers.items():
            ledger = layer_snapshot.ledger
            # A layer that was committed may be empty again, after a pass that broke.
            has_some = ledger.instances or ledger.states or layers.get(name) is not None
            if has_some and name in layers:
                layers[name] = layer.commit_entry(layer_snapshot)
        closed: bool | None = bool(snapshot.ends)
        if snapshot.ends is False and layers == self._found:
            closed = self._was_closed
        last = self.record
        if (layers, closed, snapshot.captures) != (last.layers, last.closed, last.captures):
            self._publish_record(layers, closed=closed, captures=snapshot.captures)
        on_published()

    def _update_metadata(self, name: str, layer: WrittenLayer) -> None:
        committed = self.record.layers.get(name)
        if committed is not None:
            layer.update_metadata(committed)

    def delete_layers(self, names: Collection[str]) -> None:
        """Delete layers: first from the record, then their files."""
        layers = {name: layer for name, layer in self.record.layers.items() if name not in names}
        self._publish_record(layers)
        for array in (array for name in names for array in layer_keys(name)):
            for key in self._files.list_sizes(array):
                self._files.delete(key)

    def rewind(self, rewound: Record) -> None:
        """Publish a record that lists less than the last one.

        If this is interrupted, the store has what the last record lists, or what this one does.
        """
        shrink_arrays(self._files, self.record, rewound)
        if rewound.layers != self.record.layers:
            self._publish_record(rewound.layers)

    def _publish_record(
        self,
        layers: dict[str, LayerRecord | None],
        *,
        closed: bool | None = False,
        captures: tuple[tuple[str, ...], ...] | None = None,
    ) -> None:
        """Write a record, once all that it lists is on the disk."""
        captures = self.record.captures if captures is None else captures
        record = dataclasses.replace(self.record, closed=closed, captures=captures)
        if layers != self.record.layers:
            record = dataclasses.replace(
                record,
                committed=datetime.now(UTC).isoformat(timespec="seconds"),
                commits=self.record.commits + 1,
                layers=layers,
            )
        record = dataclasses.replace(record, format=record.written_format)
        for group in set(record.groups) - set(self.record.groups):
            self._files.write(f"{group}/{KEY}", group_document({}))
        self._files.sync()
        self._files.write(KEY, record.to_bytes())
        self._files.sync()
        self.record = record
