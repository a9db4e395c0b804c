"""LayerStates: the counts and rows that capture points and stored layers share."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._layers.layer_counts import LayerCounts
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._process.progress import ProgressCallback

if TYPE_CHECKING:
    from tensorstate_gpu._layers.arrow_rows import ArrowRows


class LayerStates(LayerCounts):
    """Counts, measures and rows of one layer. Most raise ValueError while nothing is captured."""

    _listed = "chunks raw_states to_arrow to_pandas to_parquet units"

    def snapshot(self) -> tuple[Iterator[NDArray[np.uint8]], Ledger]:
        """Return the current rows, in chunks, with the matching ledger. Both can be read once."""
        with self._reading() as accumulator:
            return accumulator.chunks(), accumulator.ledger.snapshot()

    @property
    def raw_states(self) -> NDArray[np.uint8]:
        """All states, packed, in the order of capture: uint8 (states, bytes)."""
        return np.concatenate(list(self.chunks()))

    def chunks(self) -> Iterator[NDArray[np.uint8]]:
        """Return an iterator over the packed rows captured so far, in order, in chunks."""
        with self._reading() as accumulator:
            return accumulator.chunks()

    def rows_with_instances(
        self,
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], int, NDArray[Any] | None]:
        """Return all packed rows, the number of the instance of each, and how many there are.

        And the unit of each instance, or None if none were given. Raises InputsUnknown if some rows
        belong to no known instance, LabelsMissing if some instances only have a unit. Warns of
        inputs that Keras has shuffled. Needs keep="states".
        """
        self._warn_if_shuffled()
        with self._reading() as accumulator:
            rows, ledger = np.concatenate(list(accumulator.chunks())), accumulator.ledger
            ledger.require_assigned()
            units = None
            if ledger.notes["units"].count:
                units = np.concatenate(list(ledger.note_pieces("units")))
            return rows, ledger.instances_of_rows(0, len(rows)), ledger.count, units

    def to_arrow(self) -> Any:
        """Return all rows as an Arrow table.

        Needs pyarrow (the extra ``export``) and keep="states". Columns: ``instance`` (int64),
        ``state`` (fixed-size binary, the packed row) and, if every instance has a label, ``label``
        (int64 or string); the same for ``unit``. An unknown instance is null. The schema's metadata
        contain ``name`` as text, and as JSON ``neurons``, ``neuron_axis``, and ``threshold`` or
        ``firing``.
        """
        return self._arrow_rows().to_arrow()

    def to_pandas(self) -> Any:
        """Return the table of to_arrow() as a data frame; states are bytes. Also needs pandas."""
        from tensorstate_gpu._states.arrow_library import to_pandas

        return to_pandas(self.to_arrow())

    def to_parquet(self, path: Any, *, progress: ProgressCallback | None = None) -> None:
        """Write the table of to_arrow() to a new Parquet file, chunk by chunk.

        ``progress`` is called with the number of rows written so far. Raises ValueError if the path
        exists. The file gets its name when it is complete; nothing is left after an error or an
        interrupt.
        """
        self._arrow_rows().to_parquet(path, progress)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the table of to_arrow() as a stream, for other Arrow libraries. Needs pyarrow.

        ``polars.DataFrame(layer)`` and ``pyarrow.table(layer)`` call it; the rows are read chunk by
        chunk.
        """
        return self._arrow_rows().to_stream(requested_schema)

    def _arrow_rows(self) -> "ArrowRows":
        from tensorstate_gpu._layers.arrow_rows import ArrowRows

        with self._reading() as accumulator:
            chunks = accumulator.chunks()
            return ArrowRows(
                self.name, accumulator.neurons, self.attributes(), accumulator.ledger, chunks
            )

    def units(self) -> NDArray[Any]:
        """Return the unit of each instance: which instances belong together; see Run.labels().

        Raises LabelsMissing if some instances have none. Needs keep="states".
        """
        with self._reading() as accumulator:
            accumulator.chunks()  # waits for rows in transit; not where only counts are kept
            return np.concatenate(list(accumulator.ledger.note_pieces("units")))
