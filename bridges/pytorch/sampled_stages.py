"""PyTorch: SampledStagedHook, a capture point of a sampler whose rows wait in a stage."""

from collections import Counter
from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from tensorstate_gpu._arrays.array_types import NativeArray
from tensorstate_gpu._capturing.options import CaptureOptions
from tensorstate_gpu._capturing.sampling import TRAIN, Sampler, sampled
from tensorstate_gpu._layers.batches import Batches, divided
from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu._states.backends import backend_for, device_of

from .found_axis import FoundAxis
from .hook_switch import HookSwitch
from .stage import Stage, Staged
from .staged_hook import StagedHook


class SampledStagedHook(StagedHook):
    """A capture point of a sampler, whose stage takes batches while the sampler asks for some.

    Whether it does is read by graphs when they run: they need not be made anew.
    """

    def __init__(self, name: str, options: CaptureOptions, sampler: Sampler) -> None:
        super().__init__(name, options=options)
        self._sampler = sampler
        self._is_wanted = True
        self._lost_in: Counter[str] = Counter()  # rows by phase

    def want(self, wanted: bool) -> None:
        """Let batches be appended to the stage from now on, or passed over."""
        self._is_wanted = wanted
        if self._stage is not None:
            self._stage.set_active(wanted)

    def _create_stage(self, tensor: torch.Tensor, found: FoundAxis, inputs: int | None) -> Stage:
        stage = super()._create_stage(tensor, found, inputs)
        stage.set_active(self._is_wanted)
        return stage

    def _record_staged(self, stage: Stage, staged: Staged) -> None:
        self._lost_in[self._sampler.phase] += staged.lost
        super()._record_staged(stage, staged)

    def forget_lost(self, phase: str | None = None) -> None:
        """Start over after lost rows of a phase, or of all."""
        for each in [phase] if phase is not None else [*self._lost_in]:
            self._lost -= self._lost_in.pop(each, 0)

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
        """Give the sampler as many rows as it has room for."""
        rows, room = cast(NativeArray, packed), self._sampler.room(self.name)
        batches = divided(len(rows), instances) if isinstance(instances, int) else instances
        left_out = 0
        if room is not None and len(rows) > room:
            kept, batches = sampled(batches, room, self._sampler.step)
            left_out = len(rows) - int(kept.sum())
            rows = backend_for(device_of(rows)).rows_where(rows, kept)
        with self.intake.lock:
            self.intake.declare(neurons, axis)  # which checks that there are as many as before
            if len(rows):
                self._sampler.record(self.name, rows, neurons, batches)
            self._sampler.pass_over(self.name, left_out)


class StageSwitch(HookSwitch):
    """Hooks with stages, which stay at the model: graphs were made with them.

    What waits in the stages belongs to the phase in which it came, so it is drained before another.
    """

    def __init__(
        self,
        model: nn.Module,
        root: nn.Module,
        hooks: Sequence[SampledStagedHook],
        sampler: Sampler,
    ) -> None:
        self._staged = hooks
        self._since: tuple[bool, str] = (True, sampler.phase)
        super().__init__(model, root, hooks, sampler)
        self.missed_tensor = None  # the operator that notes missed passes would split CUDA graphs

    def turn(self, on: bool) -> None:
        """Let the stages take batches from now on, or pass them over."""
        now = on, self._sampler.phase
        if now != self._since:
            with deferred_interrupts():  # between stages, some would go on as before
                self.drain()
                self._since = now
                for hook in self._staged:
                    hook.want(on)

    def _puts_hooks_back(self) -> bool:
        """Ask whether a pass is captured: outside of training, each is a step. The hooks stay."""
        if self._since[1] != TRAIN:
            self.drain()
        self.turn(self._sampler.wants_now())
        return False

    def drain(self) -> None:
        """Give the sampler what waits in the stages, in the phase in which it came."""
        wanted, phase = self._since
        if wanted:  # else nothing has come, and asking the device would be waiting for it
            with self._sampler.during(phase):
                for hook in self._staged:
                    hook.drain()

    def check_complete(self) -> None:
        """Raise RowsLost if rows of a layer have found no room in its stage."""
        for hook in self._staged:
            hook.check_complete()

    def forget_lost(self, phase: str | None) -> None:
        """Start over after lost rows of a phase, or of all."""
        for hook in self._staged:
            hook.forget_lost(phase)

    def close(self) -> None:
        """Leave the model for good."""
        super().close()
        for hook in (*self._staged, self._counter):
            hook.remove()
        self._passes.leave()
