"""KeptCounters: running counts by label and group, of which a store keeps what was committed."""

from collections.abc import Callable, Collection, Sequence

from tensorstate_gpu._layers.counters import RunsByKind
from tensorstate_gpu._layers.labels import Label
from tensorstate_gpu._layers.numbered_runs import NumberedRuns
from tensorstate_gpu._layers.run_counters import CountsPart, RunCounters, joined
from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock


class KeptCounters(RunCounters):
    """Running counts, of which what was taken away is in a store, or on the way to it.

    ``layers``: returns how many layers share the memory.
    """

    def __init__(self, row_bytes: int, groups: int, layers: Callable[[], int] = lambda: 1) -> None:
        super().__init__(row_bytes, groups)
        self._kept: RunsByKind = {}
        self._waiting: list[CountsPart] = []  # to be written
        self._taken_away = 0  # rows, in the store or waiting
        self._layers = layers
        self._held_is_taken_away = self._rewrites = False
        self._lock = ForkSafeLock()  # of what a commit changes while somebody reads

    def start_from(self, kept: RunsByKind, total: int, labels: Sequence[Label]) -> None:
        """Go on from the runs in a store, which have so many rows.

        ``labels``: those of the numbers in the store's keys, in order.
        """
        self._numbers = {label: number for number, label in enumerate(labels)}
        self._kept, self._taken_away = kept, total

    @property
    def total(self) -> int:
        with self._lock:
            return self._taken_away + super().total

    @property
    def _budget(self) -> int:
        return super()._budget // self._layers()

    # ---- taking counts away --------------------------------------------------------------------

    def take(self) -> tuple[CountsPart, ...]:
        """Take all counts away, to be written. Return them, and what was taken and still waits.

        It is read from here until replace_kept() is called.
        """
        with self._lock:
            part = CountsPart(self._counters, self._taken_back, self._rewrites)
            self._taken_away += part.total
            self._counters, self._taken_back, self._rewrites = {}, {}, False
            self._held_is_taken_away = bool(self._held)
            if not part.is_empty:
                self._waiting.append(part)
            return tuple(self._waiting)

    def replace_kept(self, written: Collection[CountsPart], kept: RunsByKind) -> None:
        """Note what the store has, now that some parts are written."""
        with self._lock:
            self._kept = kept
            self._waiting = [part for part in self._waiting if part not in written]

    def nbytes_of(self, parts: Collection[CountsPart]) -> int:
        """Return about how many bytes of memory parts take, or more."""
        return sum(min(self._budget, part.total * (self._key_bytes + 8)) for part in parts)

    def hold(self) -> None:
        super().hold()
        self._held_is_taken_away = False

    def take_back(self) -> None:
        with self._lock:
            self._rewrites = self._rewrites or self._held_is_taken_away
            self._held_is_taken_away = False
            super().take_back()

    # ---- reading -------------------------------------------------------------------------------

    def _parts_now(self) -> Sequence[CountsPart]:
        return [*self._waiting, *super()._parts_now()]

    def _read(self) -> Sequence[NumberedRuns]:
        with self._lock:
            (found,) = super()._read()
            return [found._replace(runs=joined([self._kept, found.runs]))]
