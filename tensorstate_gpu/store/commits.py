"""Commits: the tails, then the record, then the arrays' shapes. All of it runs in jobs."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from tensorstate_gpu.store.background_writer import Submit
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.keys import LABELS, label_key, state_key
from tensorstate_gpu.store.layer_writer import LayerCut, LayerWriter
from tensorstate_gpu.store.record import KEY, Layer, Record, group_document


class Moment(NamedTuple):
    """What a commit is to publish: the layers' names, and the cuts of those that take rows."""

    names: list[str]
    layers: dict[str, tuple[LayerWriter, LayerCut]]


class Publisher:
    """Publishes one commit after the other; each can be tried again when it fails.

    ``record``: the last one that was published.
    """

    def __init__(self, files: Files, record: Record) -> None:
        self.record = record
        self._files = files

    def submit(self, moment: Moment, submit: Submit, then: Callable[[], object]) -> None:
        """Have a moment of the capture made what the store holds; ``then`` is called after that.

        The files of the layers are written at once; the record alone, between them.
        """
        for layer, cut in moment.layers.values():
            submit(partial(layer.write_tails, cut), cut.size())
        submit(partial(self._publish, moment, then), alone=True)
        for name, (layer, _) in moment.layers.items():
            submit(partial(self._show, name, layer))

    def _publish(self, moment: Moment, then: Callable[[], object]) -> None:
        found = {name: self.record.layers.get(name) for name in moment.names}
        for name, (layer, cut) in moment.layers.items():
            if cut.batches and name in found:
                found[name] = layer.committed(cut)
        if found != self.record.layers:
            self._write(found)
        then()

    def _show(self, name: str, layer: LayerWriter) -> None:
        committed = self.record.layers.get(name)
        if committed is not None:
            layer.publish(committed)

    def forget(self, name: str) -> None:
        """Delete a layer: from the record first, then its files."""
        layers = {other: layer for other, layer in self.record.layers.items() if other != name}
        self._write(layers)
        for key in [*self._files.sizes(state_key(name)), *self._files.sizes(label_key(name))]:
            self._files.delete(key)

    def _write(self, layers: dict[str, Layer | None]) -> None:
        record = dataclasses.replace(
            self.record,
            committed=datetime.now(UTC).isoformat(timespec="seconds"),
            commits=self.record.commits + 1,
            layers=layers,
        )
        if record.has_labels and not self.record.has_labels:
            self._files.write(f"{LABELS}/{KEY}", group_document({}))
        self._files.sync()
        self._files.write(KEY, record.to_bytes())
        self._files.sync()
        self.record = record
