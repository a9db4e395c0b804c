"""Commits: the tails, then the record, then the arrays' shapes. All of it runs in jobs."""

import dataclasses
import itertools
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.layer_writer import LayerCut, LayerWriter
from tensorstate_gpu.store.names import LABELS, label_key, state_key
from tensorstate_gpu.store.record import KEY, Layer, Record, group_document

Result = TypeVar("Result")


class Moment(NamedTuple):
    """What a commit is to publish: the layers' names, and the cuts of those that take rows."""

    names: list[str]
    layers: dict[str, tuple[LayerWriter, LayerCut]]

    def size(self) -> int:
        """Bytes that it holds."""
        return sum(cut.size() for _, cut in self.layers.values())


class Publisher:
    """Publishes one commit after the other; each can be tried again when it fails.

    ``record``: the last one that was published.
    """

    def __init__(self, files: Files, record: Record) -> None:
        self.record = record
        self._files = files

    def publish(self, moment: Moment) -> None:
        """Make a moment of the capture what the store holds."""
        found = {name: self.record.layers.get(name) for name in moment.names}
        cuts = {
            name: cut for name, cut in moment.layers.items() if cut[1].batches and name in found
        }
        tails = self._each(lambda layer, cut: layer.write_tails(cut), cuts.values())
        found |= dict(zip(cuts, tails, strict=True))
        if found != self.record.layers:
            self._write(found)
        committed = [
            (layer, found[name]) for name, (layer, _) in moment.layers.items() if found.get(name)
        ]
        self._each(lambda layer, now: layer.publish(now), committed)

    def forget(self, name: str) -> None:
        """Delete a layer: from the record first, then its files."""
        layers = {other: layer for other, layer in self.record.layers.items() if other != name}
        self._write(layers)
        for key in [*self._files.sizes(state_key(name)), *self._files.sizes(label_key(name))]:
            self._files.delete(key)

    def _each(
        self, work: Callable[..., Result], items: Collection[tuple[Any, ...]]
    ) -> list[Result]:
        """As many at once as it pays to write files at once; the first failure is raised."""
        if self._files.writers == 1 or len(items) < 2:
            return list(itertools.starmap(work, items))
        with ThreadPoolExecutor(self._files.writers, "tensorstate commit") as writers:
            return [one.result() for one in [writers.submit(work, *item) for item in items]]

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
