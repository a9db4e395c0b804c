"""What can be read of captured states, while they are captured and from a store alike."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._process.progress import Progress
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu.errors import LedgerError, NothingCaptured

if TYPE_CHECKING:
    from tensorstate_gpu._layers.arrow_rows import Rows


class Readings(ABC):
    """Counts and measures of one layer's states. Each raises ValueError while there are none."""

    name: str

    @property
    def state_count(self) -> int:
        """States captured so far, with repetition."""
        with self._reading():
            there = self._there()
            return 0 if there is None else there.ledger.rows

    @property
    def instance_count(self) -> int:
        """Model inputs seen so far."""
        with self._reading():
            there = self._there()
            return 0 if there is None else there.ledger.count

    @property
    def neurons(self) -> int | None:
        """Neurons of a state; None before the first batch."""
        with self._reading():
            there = self._there()
            return None if there is None else there.neurons

    def states_per_instance(self) -> int:
        """States that each instance gave; ValueError when instances differ."""
        with self._reading():
            return self._captured().ledger.states_per_instance()

    def snapshot(self) -> tuple[Iterator[NDArray[np.uint8]], Ledger]:
        """All rows of this moment, in pieces, and the ledger that belongs to them; to read once."""
        with self._reading():
            captured = self._captured()
            return captured.chunks(), captured.ledger.frozen()

    def histogram(self, index: Any = None) -> StateCounts:
        """How often each distinct state occurred, in all instances or those of ``index``.

        ``index`` is an int, a slice, or an array of ints or bools over the instances; it needs
        keep="states".
        """
        with self._reading():
            captured = self._captured()
            return captured.histogram() if index is None else captured.histogram_of(index)

    def counts_by(self, labels: Any = None) -> dict[Any, StateCounts]:
        """One StateCounts for each label, in one pass over the rows.

        ``labels``: one integer or string per instance (needs keep="states"); by default those that
        were given during capture.
        """
        with self._reading():
            return self._captured().by_label(labels)

    def counts(self, index: Any = None) -> NDArray[np.int64]:
        """How often each distinct state occurred, aligned with ``state_ids(index)``."""
        return self.histogram(index).counts

    def state_ids(self, index: Any = None) -> list[bytes]:
        """The distinct states as bytes, in order."""
        return self.histogram(index).state_ids()

    @property
    def states(self) -> NDArray[np.bool_]:
        """The distinct states, unpacked: bool (distinct, neurons)."""
        return self.histogram().states

    @property
    def raw_states(self) -> NDArray[np.uint8]:
        """All states, packed, in the order they came: uint8 (states, bytes)."""
        return np.concatenate(list(self.chunks()))

    def chunks(self) -> Iterator[NDArray[np.uint8]]:
        """All packed rows that are there at the call, in order, piece by piece."""
        with self._reading():
            return self._captured().chunks()

    def entropy(self, alpha: float | None = 1) -> float:
        """Rényi entropy of order alpha of the states, in bits; None gives the maximum."""
        return self.max_entropy() if alpha is None else self.histogram().entropy(alpha)

    def max_entropy(self) -> int:
        """The entropy if all states were equally likely, in bits: the number of neurons."""
        neurons = self.neurons
        if neurons is None:
            raise self._empty()
        return neurons

    def efficiency(self, alpha1: float = 1, alpha2: float | None = None) -> float:
        """entropy(alpha1) over entropy(alpha2), or over the neurons where alpha2 is None."""
        return self.histogram().efficiency(alpha1, alpha2)

    def to_arrow(self) -> Any:
        """All rows as an Arrow table; needs pyarrow (the extra ``export``), and keep="states".

        Columns: ``instance`` int64; ``state`` fixed-size binary, the packed row; and ``label``,
        int64 or string, if every instance has one. The schema's metadata hold ``name`` as it is,
        and as JSON ``neurons``, ``neuron_axis``, and ``threshold`` or ``firing``.
        """
        return self._rows().to_arrow()

    def to_pandas(self) -> Any:
        """The table of to_arrow() as a frame; states are bytes. Needs pandas, too."""
        from tensorstate_gpu._states.arrow_tables import to_pandas

        return to_pandas(self.to_arrow())

    def to_parquet(self, path: Any, *, progress: Progress | None = None) -> None:
        """Write the table of to_arrow() to a new Parquet file, piece by piece.

        ``progress`` is called with the rows written so far. ValueError where there is something at
        the path already. The file takes its name when it is whole; when that fails, or is
        interrupted, nothing is left.
        """
        self._rows().to_parquet(path, progress)

    def _rows(self) -> "Rows":
        from tensorstate_gpu._layers.arrow_rows import Rows

        with self._reading():
            found = self._captured()
            chunks = found.chunks()
            return Rows(self.name, found.neurons, self.attributes(), found.ledger, chunks)

    @abstractmethod
    def attributes(self) -> dict[str, Any]:
        """How states come about, as JSON: neuron_axis, and threshold or firing."""

    @abstractmethod
    def _there(self) -> Accumulator | None:
        """What holds the states, if any can be there."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[object]:
        """Held while states are read: no batch comes in between."""

    def _captured(self) -> Accumulator:
        """The accumulator, once there are rows and the ledger holds."""
        captured = self._there()
        if captured is None or not captured.ledger.rows:
            raise self._empty()
        if captured.rows != captured.ledger.rows:
            raise LedgerError(
                f"{self.name}: {captured.ledger.rows} rows were captured, {captured.rows} kept"
            )
        return captured

    @abstractmethod
    def _empty(self) -> NothingCaptured:
        """Says why there is nothing to read."""
