"""CountsWriter: writes the counts of one layer to a store; layer_writer.py does it for rows."""

import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from tensorstate_gpu._layers.counts_accumulator import FixedCounts
from tensorstate_gpu._layers.labels import Label
from tensorstate_gpu._layers.layer_facts import LayerFacts
from tensorstate_gpu._layers.ledger import Position
from tensorstate_gpu._layers.numbered_runs import summed
from tensorstate_gpu._layers.run_counters import CountsPart, joined
from tensorstate_gpu._process.memory_limit import working_memory
from tensorstate_gpu._process.progress import OnDone, with_progress
from tensorstate_gpu._states.sorted_runs import SortedRun, length, rows_of
from tensorstate_gpu.errors import LedgerError
from tensorstate_gpu.information.group_table import SampledInstances
from tensorstate_gpu.store.array_record import ArrayRecord
from tensorstate_gpu.store.commit_record import LayerRecord
from tensorstate_gpu.store.counts_entry import CountsEntry, RunRecord
from tensorstate_gpu.store.kept_runs import write_run
from tensorstate_gpu.store.keys import run_key, state_key
from tensorstate_gpu.store.layer_writer import RunContext
from tensorstate_gpu.store.ledger_array import LedgerArray, LedgerSnapshot
from tensorstate_gpu.store.opened_counts import by_kind, opened_counts, opened_run

NO_ROWS = ArrayRecord(0, 1, ())
_MERGED = 2  # a run is merged with newer ones that have half as many rows, or more

Kept = tuple[RunRecord, SortedRun]
Parts = tuple[CountsPart, ...]


class CountsSnapshot(NamedTuple):
    """The counts of a layer at one point in time, to be committed.

    ``parts``: those that were not written when it was taken. ``size_of_parts``: the bytes of memory
    that they take.
    """

    parts: Parts
    size_of_parts: int
    ledger: LedgerSnapshot
    labels: tuple[Label, ...]
    noted: Mapping[str, int]
    samples: Mapping[Label, SampledInstances]
    facts: LayerFacts

    def size(self) -> int:
        """Bytes of memory that the snapshot holds."""
        return self.size_of_parts + self.ledger.array.partial_chunk.nbytes


class _Replaced(NamedTuple):
    """A run that was merged with others, before a commit. ``key``: of its files."""

    key: str
    run: "weakref.ref[SortedRun]"
    commit: int


class CountsWriter:
    """Counts the batches of one capture point in memory; a commit writes them as a sorted run.

    A run that is not much longer than the newer ones is merged with them: so there are about as
    many runs as the number of states has doubled, and each state is written about as often.
    Files of runs that were merged stay until the next commit, for whoever is reading them.
    """

    def __init__(
        self,
        run: RunContext,
        name: str,
        neurons: int,
        capture: dict[str, Any],
        committed: LayerRecord | None,
        facts: Callable[[], LayerFacts],
    ) -> None:
        self._run, self._facts = run, facts
        self.name, self.neurons, self.capture = name, neurons, capture
        found = committed or LayerRecord(neurons, capture, 0, (), NO_ROWS, None, counts=_NO_COUNTS)
        self.accumulator, self._kept = opened_counts(
            run.files, name, found, self, layers=lambda: run.layers
        )
        self._ledger_array = LedgerArray(name, run.column)
        self._ledger_array.resume(found)
        assert found.counts is not None
        self._last_number = max((each.number for each in found.counts.runs), default=0)
        self._found_left_overs = False
        # Which parts were written, as far as snapshots may still have them.
        self._kept_parts: weakref.WeakSet[CountsPart] = weakref.WeakSet()
        # What the last job has written, and for which parts.
        self._written: tuple[Parts, list[Kept]] | None = None
        self._replaced: list[_Replaced] = []
        self._commits = 0

    def import_counts(self, counts: FixedCounts, on_written: OnDone | None) -> None:
        """Write counts that were captured elsewhere, in a layer that is still empty.

        ``on_written`` is called with the number of rows that were written since the last call.
        """
        self._run.check_writable()
        for numbered, runs in counts.runs.items():
            self._last_number += 1
            self._kept += self._write(self._last_number, numbered, runs, on_written)
        kept = self.accumulator.kept
        total = sum(record.total for record, _ in self._kept)
        kept.start_from(by_kind(self._kept), total, counts.labels)
        self.accumulator.replace(counts.ledger, kept, counts.samples)
        self.mark_pass_end()

    # ---- called by the accumulator and by the run ----------------------------------------------

    def adding_batch(self, rows: int) -> AbstractContextManager[None]:
        """Context manager that blocks commits while a batch is added."""
        return self._run.adding_batch(self, rows)

    @property
    def instance_count(self) -> int:
        """Number of instances whose rows are counted, as far as it is known."""
        return self.accumulator.ledger.instances

    @property
    def runs_always(self) -> bool:
        """Whether the layer runs in every pass of its model, as far as is known."""
        return self._facts().runs_always

    def drain(self) -> None:
        """Nothing to do: batches are counted on their own device."""

    @property
    def instances_in_pass(self) -> int:
        """Number of instances since the last mark."""
        return self.accumulator.instances_in_pass

    stored_in_pass = instances_in_pass  # batches are counted at once

    def mark_pass_end(self) -> None:
        """Remember the end of a forward pass, to which rewind_pass() returns."""
        self.accumulator.mark_pass_end()

    def rewind_pass(self) -> None:
        """Discard what was added since the last mark. All jobs must be done."""
        self.accumulator.rewind_pass()
        self._ledger_array.rewind(self.accumulator.ledger)
        self.mark_pass_end()

    def rewind(self, position: Position) -> None:
        """Nothing to do: a store that keeps counts is rewound to what it has, if at all."""

    # ---- called by commits ---------------------------------------------------------------------

    def snapshot(self) -> CountsSnapshot:
        """Take the counts since the last commit away, to be committed."""
        counters, ledger = self.accumulator.kept, self.accumulator.ledger
        parts = counters.take()
        by_label = self.accumulator.samples.by_label
        return CountsSnapshot(
            parts=parts,
            size_of_parts=counters.nbytes_of(parts),
            ledger=self._ledger_array.snapshot(ledger),
            labels=tuple(counters.labels),
            noted={what: column.count for what, column in ledger.notes.items()},
            samples={} if self.accumulator.groups is None else dict(by_label),
            facts=self._facts(),
        )

    def write_partial_chunks(self, snapshot: CountsSnapshot) -> None:
        """Write the counts of a snapshot as sorted runs, merged with those that are similar."""
        self._ledger_array.write_partial_chunk(snapshot.ledger)
        if parts := self._not_kept(snapshot):
            self._delete_left_overs()
            self._written = parts, self._runs_with(parts)

    def _not_kept(self, snapshot: CountsSnapshot) -> Parts:
        """Return the parts of a snapshot that no earlier commit has written."""
        return tuple(part for part in snapshot.parts if part not in self._kept_parts)

    def commit_entry(self, snapshot: CountsSnapshot) -> LayerRecord:
        """Return the entry for the commit record, after all files were written."""
        if self._written is not None and self._written[0] == self._not_kept(snapshot):
            self._keep(*self._written)
            self._written = None
        ledger, records = snapshot.ledger, tuple(record for record, _ in self._kept)
        counts = CountsEntry(records, snapshot.labels, snapshot.noted, snapshot.samples)
        if ledger.states != counts.total:
            raise LedgerError(f"{counts.total} rows are counted, {ledger.states} due")
        return LayerRecord(
            neurons=self.neurons,
            capture=self.capture,
            instances=ledger.instances,
            batches=ledger.last,
            states=NO_ROWS,
            labels=None,
            ledger=self._ledger_array.commit_entry(ledger),
            unassigned=ledger.unassigned,
            facts=snapshot.facts,
            counts=counts,
        )

    def update_metadata(self, layer: LayerRecord) -> None:
        """Write the number of batches for zarr clients. Delete runs merged before this commit."""
        self._ledger_array.update_metadata(layer.ledger, self.name)
        self._commits += 1
        # Other processes have had the time of a commit to read them; this one says when it is done.
        for each in [each for each in self._replaced if each.commit + 2 <= self._commits]:
            if each.run() is None:
                self._delete(each.key)
                self._replaced.remove(each)

    def delete_replaced(self) -> None:
        """Delete the files of all runs that were merged: nothing more is committed."""
        self._found_left_overs = False
        self._delete_left_overs()

    # ---- runs ----------------------------------------------------------------------------------

    def _runs_with(self, parts: Parts) -> list[Kept]:
        """Write the counts of some parts. Return what the store has then."""
        kept, number = list(self._kept), self._last_number
        rewrites = any(part.rewrites for part in parts)
        merged: dict[bool, list[Kept]] = {}
        more = joined(part.runs() for part in parts)
        for numbered, runs in more.items():
            own = [each for each in kept if each[0].numbered == numbered]
            merged[numbered] = own if rewrites else _merged_with(sum(map(length, runs)), own)
        rows = sum(part.total for part in parts)
        rows += sum(record.total for each in merged.values() for record, _ in each)
        with self._run.progress.writing(rows) as on_written:
            for numbered, runs in more.items():
                number += 1
                sources = [*(run for _, run in merged[numbered]), *runs]
                new = self._write(number, numbered, sources, on_written)
                kept = [each for each in kept if each not in merged[numbered]] + new
        return kept

    def _write(
        self,
        number: int,
        numbered: bool,
        sources: list[SortedRun],
        on_written: OnDone | None,
    ) -> list[Kept]:
        files, width = self._run.files, self.accumulator.kept.key_bytes(numbered)
        under = run_key(self.name, number)
        budget = working_memory() // 4 // files.writer_threads
        pieces = summed(sources, width, budget)
        pieces = with_progress(pieces, rows_of, on_written)
        written = write_run(files, under, width, sources, pieces)
        if not written.tally.total:  # everything was taken back
            self._delete(under)
            return []
        record = RunRecord(number, numbered, written.tally.total, written.most, written.arrays)
        return [(record, opened_run(files, self.name, width, record))]

    def _keep(self, parts: Parts, kept: list[Kept]) -> None:
        """Take over what was written of some parts."""
        numbers = {record.number for record, _ in kept}
        self._replaced += [
            _Replaced(run_key(self.name, record.number), weakref.ref(run), self._commits)
            for record, run in self._kept
            if record.number not in numbers
        ]
        self._last_number = max([self._last_number, *numbers])
        self._kept = kept
        self.accumulator.kept.replace_kept(parts, by_kind(kept))
        self._kept_parts.update(parts)

    def _delete_left_overs(self) -> None:
        """Delete the files of runs that are not kept, once: those of a killed writer."""
        if not self._found_left_overs:
            listed = {run_key(self.name, record.number) for record, _ in self._kept}
            for key in self._run.files.list_sizes(state_key(self.name)):
                under = key.removeprefix(state_key(self.name) + "/").partition("/")
                if under[1] and f"{state_key(self.name)}/{under[0]}" not in listed:
                    self._run.files.delete(key)
            self._found_left_overs = True

    def _delete(self, under: str) -> None:
        for key in self._run.files.list_sizes(under):
            self._run.files.delete(key)


_NO_COUNTS = CountsEntry((), (), {"labels": 0, "units": 0}, {})


def _merged_with(rows: int, kept: list[Kept]) -> list[Kept]:
    """Return the runs with which a new one of so many rows is merged: the newest ones."""
    merged: list[Kept] = []
    for record, run in reversed(kept):
        if length(run) > _MERGED * rows:
            break
        merged.append((record, run))
        rows += length(run)
    return merged
