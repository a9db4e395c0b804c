"""Stores: several stores, such as those of the ranks of a job, read as one."""

from collections.abc import Iterator, Sequence
from typing import Any

from tensorstate_gpu._arguments import function
from tensorstate_gpu._layers.layer_facts import LayerFacts
from tensorstate_gpu._layers.names_together import names_together
from tensorstate_gpu._process.progress import ProgressCallback
from tensorstate_gpu.reporting.layer_names import find_name
from tensorstate_gpu.reporting.text import with_noun
from tensorstate_gpu.store.joined_layer import JoinedLayer
from tensorstate_gpu.store.store import Store
from tensorstate_gpu.store.stored_run import StoredRun
from tensorstate_gpu.store.verification import Verification

_NAMED = 3  # stores that a message names


class Stores(StoredRun[JoinedLayer]):
    """Several stores, read as one; `open_stores` returns it.

    It has the layers of each store, by name, and reads them as a `Store` does: ``stores["conv_1"]``
    has the rows, the inputs and the labels of all stores, in their order. ``parts``: the stores. A
    pickle refers to them, and shows what was committed when they were opened.
    """

    __module__ = "tensorstate_gpu.store"

    _listed = "parts unfinished"

    def __init__(self, parts: Sequence[Store]) -> None:
        self.parts = tuple(parts)

    @property
    def names(self) -> list[str]:
        """Names of the layers of all stores, in the model's order."""
        return names_together(store.names for store in self.parts)

    def __getitem__(self, name: str | int) -> JoinedLayer:
        names = self.names
        if not isinstance(name, str) or name not in names:
            others = {each: self._facts(each).other_names for each in names}
            name = find_name(others, name, of=str(self))
        return JoinedLayer(
            name,
            [store[name] for store in self.parts if name in store.record.layers],
            self._facts(name),
        )

    def _facts(self, name: str) -> LayerFacts:
        # A store without states says nothing, and takes nothing away.
        known = [
            store.record.facts_of(name)
            for store in self.parts
            if any(layer is not None for layer in store.record.layers.values())
        ]
        return LayerFacts.joined([facts or LayerFacts() for facts in known])

    @property
    def unfinished(self) -> list[str]:
        """The stores whose last writer is still at work, or has not ended properly."""
        return [str(store) for store in self.parts if store.closed is False]

    @property
    def closed(self) -> bool | None:
        """Whether the writers of all stores have ended properly; None if some do not say."""
        ends = {store.closed for store in self.parts}
        return False if False in ends else None if None in ends else True

    @property
    def report_notes(self) -> list[tuple[str, str]]:
        """What a report says of the stores below its table, as pairs (label, value)."""
        unknown = [str(store) for store in self.parts if store.closed is None]
        told = {
            "unfinished": (self.unfinished, "only what they have committed is counted"),
            "end unknown": (unknown, "older versions wrote them"),
        }
        return [
            (label, f"{len(found)} of {len(self.parts)} stores, {why}: {listed(found)}")
            for label, (found, why) in told.items()
            if found
        ]

    @property
    def report_origin(self) -> dict[str, str]:
        """What the page of a report says about where the states are from."""
        return {"stores": str(self)}

    def info(self) -> dict[str, Any]:
        """Return what is committed: of each store what Store.info() says, and their sums."""
        each = [store.info() for store in self.parts]
        sizes = [about["bytes"] for about in each]
        return {
            "stores": each,
            "closed": self.closed,
            "commits": sum(about["commits"] for about in each),
            "bytes": None if None in sizes else sum(sizes),
            "layers": [_sums(layers) for layers in self._layer_infos(each)],
        }

    def _layer_infos(self, each: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        by_store = [{layer["name"]: layer for layer in about["layers"]} for about in each]
        for name in self.names:
            yield [layers[name] for layers in by_store if name in layers]

    def verify(self, progress: ProgressCallback | None = None) -> Verification:
        """Read and check everything that is committed; see Store.verify().

        ``progress`` is called with the number of chunks checked, and that of all stores.
        """
        function(progress, "progress")
        total = sum(store.record.chunk_count for store in self.parts)
        done = 0
        found = []
        for store in self.parts:

            def counted(chunks: int, *_: int, before: int = done) -> None:
                if progress is not None:
                    progress(before + chunks, total)

            found.append(store.verify(counted))
            done += store.record.chunk_count
        orphans = [
            None if each.orphans is None else [f"{store}/{key}" for key in each.orphans]
            for store, each in zip(self.parts, found, strict=True)
        ]
        return Verification(
            sum(each.chunks for each in found),
            sum(each.bytes for each in found),
            sum(each.rows for each in found),
            [problem for each in found for problem in each.problems],
            None if None in orphans else [key for keys in orphans if keys for key in keys],
        )

    def __str__(self) -> str:
        places = listed([str(store) for store in self.parts])
        return f"{with_noun(len(self.parts), 'store')} ({places})"

    def __repr__(self) -> str:
        return f"Stores({with_noun(len(self.parts), 'store')}, {with_noun(len(self), 'layer')})"


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


_SUMMED = (
    *("rows", "instances", "unassigned_rows", "labels", "units", "runs", "distinct_at_most"),
    *("chunks", "bytes"),
)


def _sums(layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what Store.info() says of a layer, with the sums of all stores."""
    filled = [layer for layer in layers if layer["neurons"] is not None] or layers[:1]
    sums = {
        what: None if None in (found := [layer[what] for layer in filled]) else sum(found)
        for what in _SUMMED
        if what in filled[0]
    }
    sizes = {layer["states_per_instance"] for layer in filled}
    return {**filled[0], **sums, "states_per_instance": sizes.pop() if len(sizes) == 1 else None}
