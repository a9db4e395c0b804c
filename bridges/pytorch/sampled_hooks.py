"""PyTorch: SampledHook, a capture point that takes the states that a sampler asks for."""

from typing import Self, cast

import torch
from torch.nn.utils.rnn import PackedSequence
from torch.profiler import record_function

from tensorstate_gpu._arrays.array_types import NativeArray
from tensorstate_gpu._arrays.thresholds import Threshold
from tensorstate_gpu._capturing.options import CaptureOptions
from tensorstate_gpu._capturing.sampling import Sampler
from tensorstate_gpu._layers.batches import Batches, divided

from .batch_plan import Planned
from .found_axis import FoundAxis
from .hooks import StateCaptureHook
from .rows_by_input import RowsByInput


class SampledHook(StateCaptureHook):
    """A capture point of a sampler, which keeps the counts itself."""

    def __init__(
        self, name: str, options: CaptureOptions, sampler: Sampler, call_of: str | None = None
    ) -> None:
        super().__init__(name, options=options, call_of=call_of)
        self._sampler = sampler
        self._plans = None  # which rows are kept, the sampler decides for each batch

    def _new_of_call(self, name: str) -> Self:
        return type(self)(name, self.options, self._sampler, call_of=self.name)

    def _takes_pass_at(self, clock: int) -> bool:
        return super()._takes_pass_at(clock) and self._sampler.wants_now()

    def receive(
        self,
        tensor: torch.Tensor,
        clock: int,
        traced: str | None = None,
        inputs: int | None = None,
        sequences: PackedSequence | None = None,
        planned: Planned | None = None,
    ) -> None:
        with record_function(f"tensorstate_gpu::{self.name}"):
            super().receive(tensor, clock, traced, inputs, sequences, planned)

    def _keep(
        self, by_input: RowsByInput, threshold: Threshold, found: FoundAxis, inputs: int | None
    ) -> None:
        room = self._sampler.room(self.name)
        chosen = by_input if room is None else by_input.sampled(room, self._sampler.step)
        if chosen.rows:
            # Of whole inputs fewer may be left than the pass has.
            inputs = inputs if chosen.inputs is None else chosen.inputs
            super()._keep(chosen, threshold, found, inputs)
        self._sampler.pass_over(self.name, by_input.rows - chosen.rows)

    def record(
        self,
        packed: object,
        neurons: int,
        axis: int,
        instances: int | Batches,
        axis_origin: str | None = None,
        inputs_unknown: str | None = None,
        spatial_shape: tuple[int, ...] | None = None,
    ) -> None:
        """Give a batch to the sampler. Raises OtherProcess in a forked process."""
        intake = self.intake
        intake.sink.before_batch()
        with intake.lock:
            intake.declare(neurons, axis)  # which checks that there are as many as before
            rows = cast(NativeArray, packed)
            whole = divided(len(rows), instances) if isinstance(instances, int) else instances
            self._sampler.record(self.name, rows, neurons, whole)
