"""PointStates: how a capture point captures, and what reads the states that its intake has."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tensorstate_gpu._arrays.firing_function import FiringFunction
from tensorstate_gpu._capturing.intake import Intake
from tensorstate_gpu._capturing.options import CaptureOptions, Keep
from tensorstate_gpu._capturing.spread import Spread
from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.layer_facts import LayerFacts
from tensorstate_gpu._layers.layer_states import LayerStates
from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu.errors import NothingCaptured, SliceOfNeurons


class PointStates(LayerStates):
    """How states are captured, and what reads those that an intake has received."""

    _listed = "capture_on disk_path firing keep neuron_axis read_at_once threshold"

    capture_on: bool
    options: CaptureOptions
    intake: Intake
    spread: Spread | None  # over ranks, as far as it is known

    @property
    def keep(self) -> Keep:
        """ "states" or "counts"."""
        return self.options.keep

    @property
    def threshold(self) -> Any:
        """A number, or a tuple with one number per neuron."""
        return self.options.threshold

    @property
    def firing(self) -> FiringFunction | None:
        """The function that decides whether a neuron fires, or None if a threshold does."""
        return self.options.firing

    @property
    def neuron_axis(self) -> int | None:
        """The axis given by the user; ``axis`` is the axis in use."""
        axis = self.options.neuron_axis
        assert axis is None or isinstance(axis, int)
        return axis

    @property
    def disk_path(self) -> Any:
        """The store of the rows, or its path; None if they are in memory."""
        return self.options.disk_path

    @property
    def axis(self) -> int | None:
        """The axis of the neurons in the first batch; None before it."""
        with self._read_lock():
            return self.intake.axis

    @property
    def axis_origin(self) -> str | None:
        """Where the axis is known from; None before the first batch, or if it was declared.

        "given": by neuron_axis. "layer": by the layer's definition. "flow": followed from the
        layers before this one. "rule": what holds for layers of that class. "guess": by the number
        of axes alone.
        """
        with self._read_lock():
            return self.intake.axis_origin

    def facts(self) -> LayerFacts:
        return self.intake.log.facts()

    @property
    def nan_share(self) -> float:
        with self._read_lock():
            return self.intake.nan_share

    def attributes(self) -> dict[str, Any]:
        """Return how states are captured, as JSON: neuron_axis, and threshold or firing."""
        return self.intake.attributes()

    def _find_accumulator(self) -> Accumulator | None:
        return self.intake.accumulator

    def _read_lock(self) -> ForkSafeLock:
        """Return the lock, after waiting for batches that a framework still computes.

        Recording these batches needs the lock, so the wait comes first.
        """
        self.intake.wait_for_pending()
        return self.intake.lock

    @property
    def has_slices(self) -> bool:
        """Whether this rank has a slice of the neurons only."""
        return self.spread is not None and self.spread.has_slices

    @contextmanager
    def read_at_once(self) -> Iterator[Accumulator | None]:
        """Context manager: all that was captured, to which nothing is added meanwhile.

        Also slices of neurons, and inputs without rows. None before the first batch.
        """
        with self._read_lock(), self._naming_layer():
            yield self._complete_accumulator()

    def _require_accumulator(self) -> Accumulator:
        if self.spread is not None and self.spread.has_slices:
            raise SliceOfNeurons(
                f"{self.name}: this rank has {self.neurons} of {self.spread.neurons} neurons; "
                "run.sync() joins those of all ranks"
            )
        return super()._require_accumulator()

    def _no_states_error(self) -> NothingCaptured:
        if self.passes is not None and not self.passes[0]:
            return NothingCaptured(
                f"{self.name}: nothing captured: the layer ran in none of the model's "
                f"{self.passes[1]:,} passes; exclude= it"
            )
        if self.intake.is_stopped:
            return NothingCaptured(
                f"{self.name}: nothing captured: it is a copy, or no longer at a layer (run the "
                "model inside the `with ts.capture(...)` block). A layer in a graph that was "
                "traced before captures nothing: capture the outer model"
            )
        return NothingCaptured(
            f"{self.name}: nothing captured yet{self._what_leaves_out()}. Run the model (inside "
            "the `with ts.capture(...)` block, if it is captured by one); a layer that is never "
            "called captures nothing (exclude= it)"
        )

    def _what_leaves_out(self) -> str:
        """Return which options may have left out the passes that there were."""
        if not self.capture_on:
            return ": capture_on is False"
        if self.options.when is None:
            return ""
        texts = {
            "eval": ": when='eval' captures passes in evaluation mode only, in PyTorch after "
            "model.eval()",
            "train": ": when='train' captures passes in training mode only",
        }
        other = ": when= leaves out passes for which its function returns False"
        return texts.get(str(self.options.when), other)
