"""Saves a finished capture as a new store."""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from numpy.typing import NDArray

from tensorstate_gpu._layers.counts_accumulator import FixedCounts
from tensorstate_gpu._layers.labels import to_column
from tensorstate_gpu._layers.layer_states import LayerStates
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._process.progress import OnDone, ProgressCallback, running_total, with_progress
from tensorstate_gpu.store.keys import state_key
from tensorstate_gpu.store.store import Store


class _Rows(NamedTuple):
    """The rows of a layer at one point in time. Both can be read once."""

    chunks: Iterator[NDArray[Any]]
    ledger: Ledger


def save_points(
    points: Collection[LayerStates], path: Any, progress: ProgressCallback | None = None
) -> None:
    """Write all rows or counts, ledgers and notes of capture points, or nothing; see Run.save()."""
    for point in points:  # check everything before anything is written
        state_key(point.name)
        point.check_captured()
        if not point.keeps_counts:
            _check_notes(point)
    # Of one time, all of them: a program may go on to capture while they are written.
    states = {point: point.fixed_counts() or _Rows(*point.snapshot()) for point in points}
    on_written = running_total(progress, sum(each.ledger.rows for each in states.values()))
    store = Store(path, "x", commit_seconds=None)
    try:
        for point in points:
            _save(store, point, states.pop(point), on_written)  # which needs no memory any longer
        store.close()
    except BaseException:
        store.session.delete_new_store()
        raise


def _save(
    store: Store,
    point: LayerStates,
    states: FixedCounts | _Rows,
    on_written: OnDone | None,
) -> None:
    """Write a layer. ``on_written`` is called with the number of rows after each piece."""
    assert point.neurons is not None
    about = point.name, point.neurons, point.attributes()
    if isinstance(states, FixedCounts):
        writer = store.session.open_counts(*about, None, point.facts)
        writer.import_counts(states, on_written)
        return
    layer = store.session.open_layer(*about, facts=point.facts)
    for _ in with_progress(layer.import_capture(*states), int, on_written):
        pass


def _check_notes(point: LayerStates) -> None:
    _, ledger = point.snapshot()
    for what, column in ledger.notes.items():
        for values in column.pieces():
            to_column(values, f"{point.name}: {what} in a store")
