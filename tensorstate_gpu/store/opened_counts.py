"""The counts that stores keep of a layer, as an accumulator."""

from collections.abc import Callable, Iterable, Sequence

from tensorstate_gpu._layers.batches import Batch
from tensorstate_gpu._layers.counters import RunsByKind
from tensorstate_gpu._layers.instance_groups import SampleTallies
from tensorstate_gpu._layers.instance_notes import NOTES, NoteColumn
from tensorstate_gpu._layers.joined_counters import JoinedCounters
from tensorstate_gpu._layers.kept_accumulator import (
    CountsStorage,
    KeptCountsAccumulator,
    RunsAccumulator,
)
from tensorstate_gpu._layers.kept_counters import KeptCounters
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._states.sorted_runs import SortedRun
from tensorstate_gpu.store.commit_record import LayerRecord
from tensorstate_gpu.store.counts_entry import RunRecord
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.kept_runs import KeptRun
from tensorstate_gpu.store.keys import run_key
from tensorstate_gpu.store.ledger_array import read_batches


def opened_counts(
    files: Files,
    name: str,
    committed: LayerRecord,
    storage: CountsStorage | None = None,
    layers: Callable[[], int] = lambda: 1,
) -> tuple[KeptCountsAccumulator, list[tuple[RunRecord, SortedRun]]]:
    """Return the accumulator of what is committed, and the runs that it is made of.

    ``storage``: the writer of the layer, if it goes on. ``layers``: returns how many layers share
    the memory.
    """
    counts, groups = committed.counts, committed.groups
    assert counts is not None
    counters = KeptCounters(committed.row_bytes, groups or 1, layers)
    kept: list[tuple[RunRecord, SortedRun]] = [
        (each, opened_run(files, name, committed.run_bytes(each), each)) for each in counts.runs
    ]
    counters.start_from(by_kind(kept), counts.total, counts.labels)
    samples = SampleTallies(groups or 1)
    samples.by_label.update(counts.samples)
    notes = {what: NoteColumn(what, count=count) for what, count in counts.noted.items()}
    ledger = Ledger.from_batches(read_batches(files, name, committed), notes)
    accumulator = KeptCountsAccumulator(
        committed.neurons, groups, counters, ledger, samples, storage, f"{files}: {name!r}"
    )
    return accumulator, kept


def joined_counts(
    parts: Sequence[KeptCountsAccumulator], batches: Iterable[Batch], name: str
) -> RunsAccumulator:
    """Return the counts of a layer in several stores, of which each has some, as one.

    ``batches``: those of all ledgers, in order.
    """
    first, groups = parts[0], parts[0].groups
    counters = JoinedCounters(first.row_bytes, groups or 1, [part.kept for part in parts])
    samples = SampleTallies(groups or 1)
    for part in parts:
        samples.add_all(part.samples)
    notes = {
        what: NoteColumn(what, count=sum(part.ledger.notes[what].count for part in parts))
        for what in NOTES
    }
    ledger = Ledger.from_batches(batches, notes)
    where = f"{len(parts)} stores: {name!r}"
    return RunsAccumulator(first.neurons, groups, counters, ledger, samples, where)


def opened_run(files: Files, name: str, row_bytes: int, record: RunRecord) -> KeptRun:
    """Return a sorted run of a layer. It reads the first row of each chunk."""
    return KeptRun(files, run_key(name, record.number), row_bytes, record.most, record.arrays)


def by_kind(kept: list[tuple[RunRecord, SortedRun]]) -> RunsByKind:
    """Return the runs by whether their rows have numbers."""
    runs: RunsByKind = {}
    for record, run in kept:
        runs.setdefault(record.numbered, []).append(run)
    return runs
