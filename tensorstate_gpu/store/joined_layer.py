"""JoinedLayer: the committed states of one layer in several stores, one after the other."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate, chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.batches import Batch, appended
from tensorstate_gpu._layers.labels import label_kind
from tensorstate_gpu._layers.layer_facts import LayerFacts
from tensorstate_gpu.errors import NothingCaptured, StoresDisagree
from tensorstate_gpu.store.commit_record import LayerRecord
from tensorstate_gpu.store.opened_counts import joined_counts
from tensorstate_gpu.store.stored_layer import StoredLayer
from tensorstate_gpu.store.stored_rows import Rows, StoredRows


class JoinedLayer(StoredRows):
    """The committed states of one layer in several stores, in the order of the stores.

    It is read as a `StoredLayer`: rows, instances and labels of the second store follow those of
    the first one. Counts and measures are those of all rows together.
    """

    __module__ = "tensorstate_gpu.store"

    def __init__(self, name: str, parts: Sequence[StoredLayer], facts: LayerFacts) -> None:
        self.name = name
        self._parts = [part for part in parts if part.committed is not None]
        self._facts = facts

    def __getstate__(self) -> dict[str, object]:
        # Without what is cached while the layer is read.
        return {"name": self.name, "_parts": self._parts, "_facts": self._facts}

    @cached_property
    def records(self) -> Sequence[LayerRecord]:
        return [record for part in self._parts for record in part.records]

    @property
    def places(self) -> Sequence[str]:
        return [part.place for part in self._parts]

    def facts(self) -> LayerFacts:
        return self._facts

    @cached_property
    def reader(self) -> "_JoinedReader":
        if not self._parts:
            raise self._no_states_error()
        return _JoinedReader(self._parts)

    def batches(self) -> Iterator[Batch]:
        joined: list[Batch] = []
        appended(joined, chain.from_iterable(part.batches() for part in self._parts))
        return iter(joined)

    def _open_accumulator(self) -> Accumulator | None:
        if not self.keeps_counts:
            return super()._open_accumulator()
        return joined_counts(
            [part.kept_counts() for part in self._parts], self.batches(), self.name
        )

    def note_pieces(self, what: str) -> Iterator[NDArray[Any]]:
        kinds: dict[str, StoredLayer] = {}  # the first part of each
        for part in self._parts:
            for piece in part.note_pieces(what):
                kinds.setdefault(label_kind(piece, f"{self.name}: {what}"), part)
                if len(kinds) > 1:
                    told = ", ".join(f"{kind} in {part.place}" for kind, part in kinds.items())
                    raise StoresDisagree(f"{self.name}: {what} are {told}")
                yield piece

    def _no_states_error(self) -> NothingCaptured:
        return NothingCaptured(f"none of these stores holds states of {self.name!r}")


class _JoinedReader:
    """Reads the rows of the parts, each of which has some."""

    def __init__(self, parts: Sequence[StoredLayer]) -> None:
        self._parts = parts
        self._ends = list(accumulate(map(len, parts)))
        self.rows = self._ends[-1]

    def chunks(self) -> Iterator[Rows]:
        return chain.from_iterable(part.reader.chunks() for part in self._parts)

    def read(self, start: int, stop: int) -> Iterator[Rows]:
        first = int(np.searchsorted(self._ends, start, side="right"))
        last = int(np.searchsorted(self._ends, stop, side="left"))
        for part, end in zip(
            self._parts[first : last + 1], self._ends[first : last + 1], strict=True
        ):
            begin = end - len(part)
            yield from part.reader.read(max(start - begin, 0), min(stop, end) - begin)
