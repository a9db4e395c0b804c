"""CapturedLayer: what is known of the states of a layer, and whether they can be read."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.capture_warnings import warn_of_shuffled
from tensorstate_gpu._layers.layer_facts import LayerFacts
from tensorstate_gpu._listed_names import ListedNames
from tensorstate_gpu.errors import (
    InputsUnknown,
    LabelsMissing,
    LedgerError,
    NothingCaptured,
    PassesMissed,
)


class CapturedLayer(ListedNames, ABC):
    """A layer of which states were captured."""

    _listed = (
        "name attributes axis axis_origin failed_passes instance_count nan_share neurons "
        "other_names passes spatial_shape state_count states_per_instance"
    )
    name: str

    @abstractmethod
    def facts(self) -> LayerFacts:
        """Return what is known of the layer besides its states."""

    @property
    @abstractmethod
    def axis(self) -> int | None:
        """The axis of the neurons."""

    @property
    @abstractmethod
    def axis_origin(self) -> str | None:
        """Where the axis is known from."""

    @property
    def state_count(self) -> int:
        """Number of states captured so far, including repetitions."""
        with self._read_lock():
            accumulator = self._find_accumulator()
            return 0 if accumulator is None else accumulator.ledger.rows

    @property
    def instance_count(self) -> int:
        """Number of model inputs (instances) captured so far.

        Raises InputsUnknown if passes had inputs that could not be counted.
        """
        with self._read_lock():
            accumulator = self._find_accumulator()
            with self._naming_layer():
                return 0 if accumulator is None else accumulator.ledger.count

    @property
    def neurons(self) -> int | None:
        """Number of neurons of the layer; None before the first batch."""
        with self._read_lock():
            accumulator = self._find_accumulator()
            return None if accumulator is None else accumulator.neurons

    @property
    def passes(self) -> tuple[int, int] | None:
        """In how many passes of its model the layer ran, and how many there were.

        Counted from attaching or resetting; in a store, over all captures into it. None where it is
        not known: for JAX, for points attached by hand, and as long as only parts of the
        model were called.
        """
        return self.facts().passes

    @property
    def failed_passes(self) -> int:
        """How many of the model's passes have failed, and so may not have come to the layer."""
        return self.facts().failed

    @property
    def other_names(self) -> tuple[str, ...]:
        """The other names, of a layer that is registered in its model under several."""
        return self.facts().other_names

    @property
    def call_of(self) -> str | None:
        """For a later call of a layer within a pass, the name of its first call's states."""
        return self.facts().call_of

    @property
    def spatial_shape(self) -> tuple[int, ...] | None:
        """The sizes of the activations without inputs and neurons: (height, width) of images.

        None if inputs differ in them, or if they are not known.
        """
        return self.facts().spatial_shape

    @property
    def nan_share(self) -> float:
        """The share of NaN in the first batch, from 0 to 1, if nothing in that batch fires; else 0.

        Known while a model is captured in PyTorch, or eagerly in Keras; stores do not keep it.
        """
        return 0.0

    def states_per_instance(self) -> int:
        """Return the number of states per instance. Raises ValueError if instances differ."""
        with self._reading() as accumulator:
            return accumulator.ledger.states_per_instance()

    def check_captured(self) -> None:
        """Raise an error if there are no states, or not those of all passes."""
        with self._reading():
            pass

    def _reading(self, given: object = None) -> AbstractContextManager[Accumulator]:
        """Context manager: the accumulator, with all rows, to which none is added meanwhile.

        ``given``: what the caller says of instances by their order. Warns if Keras has shuffled
        them.
        """
        if given is not None:
            self._warn_if_shuffled()
        return self._locked()

    @contextmanager
    def _locked(self) -> Iterator[Accumulator]:
        with self._read_lock(), self._naming_layer():
            yield self._require_accumulator()

    def _warn_if_shuffled(self) -> None:
        if self.facts().shuffled:
            warn_of_shuffled(self.name)

    @contextmanager
    def _naming_layer(self) -> Iterator[None]:
        """Say in errors about labels and inputs which layer it is; of unknown inputs, also why."""
        try:
            yield
        except InputsUnknown as error:
            cause = self.attributes().get("inputs_unknown", "")
            raise InputsUnknown(f"{self.name}: {error}{cause and f' ({cause})'}") from None
        except LabelsMissing as error:
            raise LabelsMissing(f"{self.name}: {error}") from None

    @abstractmethod
    def attributes(self) -> dict[str, Any]:
        """Return how states are captured, as JSON: neuron_axis, and threshold or firing."""

    @abstractmethod
    def _find_accumulator(self) -> Accumulator | None:
        """Return the accumulator, or None before the first batch."""

    @abstractmethod
    def _read_lock(self) -> AbstractContextManager[object]:
        """Return a lock that blocks new batches while states are read."""

    def _require_accumulator(self) -> Accumulator:
        """Return the accumulator.

        Raises an error if it has no rows, not those of its ledger, or not those of all passes.
        """
        accumulator = self._complete_accumulator()
        if accumulator is None or not accumulator.ledger.rows:
            raise self._no_states_error()
        return accumulator

    def _complete_accumulator(self) -> Accumulator | None:
        """Return the accumulator, also without rows; None before the first batch.

        Raises an error if it has not the rows of its ledger, or not those of all passes.
        """
        self._check_passes()
        accumulator = self._find_accumulator()
        if accumulator is not None:
            recorded, kept = accumulator.ledger.rows, accumulator.rows
            if kept != recorded:
                raise LedgerError(f"{self.name}: {recorded} rows were captured, {kept} kept")
        return accumulator

    def _check_passes(self) -> None:
        """Raise PassesMissed if the layer is known to have run without its capture point."""
        facts = self.facts()
        if facts.bypass is not None and facts.passes is not None:
            ran, passes = facts.passes
            raise PassesMissed(
                f"{self.name}: {passes - ran:,} of the model's {passes:,} passes ran without this "
                f"capture point, so a measure would be that of a part. Cause: {facts.bypass}"
            )

    @abstractmethod
    def _no_states_error(self) -> NothingCaptured:
        """Return the error that explains why there are no states."""
