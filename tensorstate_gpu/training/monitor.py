"""StateMonitor: captures some steps of a training job, and measures them for charts."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tensorstate_gpu._arguments import integer
from tensorstate_gpu._arrays.firing_function import FiringFunction
from tensorstate_gpu._arrays.frameworks import bridge_of
from tensorstate_gpu._capturing.attachment import Method, plan_attachment
from tensorstate_gpu._capturing.bridge_protocol import Bridge
from tensorstate_gpu._capturing.options import NeuronAxis
from tensorstate_gpu._capturing.sampling import EVAL, TRAIN
from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu.errors import SinkFailedWarning
from tensorstate_gpu.reporting import Report
from tensorstate_gpu.reporting.text import with_noun
from tensorstate_gpu.training.loggers import check_sink, hand_to
from tensorstate_gpu.training.monitor_options import checked_sampling
from tensorstate_gpu.training.phase_counts import PhaseCounts, checked_phase
from tensorstate_gpu.training.saved_state import (
    FORMAT,
    how_many,
    loaded_state,
    saved_windows,
)
from tensorstate_gpu.training.step_sampler import StepSampler
from tensorstate_gpu.training.step_warnings import StepWarnings


class StateMonitor(PhaseCounts):
    """Captures some steps of the training of a PyTorch model, and measures its layers.

    Between the steps that it captures, the model has no capture points. docs/training.md describes
    what is captured, and the callbacks for Lightning, Hugging Face and Keras.

    Parameters
    ----------
    model : torch.nn.Module
    attach_to, exclude, method
        Which layers to capture, and where; as for build_efficiency_model.
    every_n_steps : int
        Capture all forward passes of every so many optimizer steps, and of the first. If numbers
        of steps leave some out, of the first step after each multiple.
    states_per_step : int, optional
        Take at most so many states of each layer and step: those of whole inputs where they fit,
        else evenly spaced ones. None takes all.
    window : int, optional
        Count the states of the last so many captured steps; by default, of all since reset().
    phases : sequence of str
        Which passes to capture: "train" stands for those of a model in training mode, "eval" for
        the others. In "eval", each pass is captured, and counts as a step.
    groups : int, optional
        Keep the counts of so many groups of inputs apart, for standard errors; see grouped().
    stage_rows : int, optional
        So many packed rows of a layer may wait on the device until its step ends. Captures can then
        be a part of a CUDA graph, and the capture points stay at the model.
    threshold, firing, neuron_axis
        As for CapturePoint.

    Raises
    ------
    TypeError, ValueError
        As build_efficiency_model; NotCapturable for a Keras model.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(3, 4)
    >>> monitor = StateMonitor(model, "Linear", every_n_steps=2)
    >>> for _ in range(4):
    ...     _ = model(torch.ones(10, 3))
    ...     monitor.step()
    >>> monitor.counts("Linear").total  # of steps 0 and 2
    20
    """

    __module__ = "tensorstate_gpu.training"

    def __init__(
        self,
        model: object,
        attach_to: object = None,
        exclude: object = (),
        *,
        every_n_steps: int = 50,
        states_per_step: int | None = 4096,
        window: int | None = None,
        phases: Sequence[str] = (TRAIN, EVAL),
        groups: int | None = None,
        stage_rows: int | None = None,
        method: Method = "after",
        threshold: object = 0.0,
        firing: FiringFunction | None = None,
        neuron_axis: NeuronAxis | None = None,
    ) -> None:
        sampling = checked_sampling(
            {
                "every_n_steps": every_n_steps,
                "states_per_step": states_per_step,
                "window": window,
                "phases": phases,
            }
        )
        sampler = StepSampler(**sampling, groups=groups)
        bridge: Bridge = bridge_of(model)
        attachment = plan_attachment(
            model,
            attach_to,
            exclude,
            method,
            keep="counts",
            threshold=threshold,
            firing=firing,
            neuron_axis=neuron_axis,
            groups=groups,
            stage_rows=stage_rows,
        )
        switch = bridge.attach_switched(
            model, attachment.chosen, method, attachment.options, sampler
        )
        super().__init__(sampler, switch, attachment.point_names)
        self._rule = json.dumps(attachment.options.firing_rule())
        self._window, self._groups = window, groups
        attachment.tell(self._switch.points)
        self._sampler.in_training = self._switch.in_training
        self._removed = False
        self._warnings = StepWarnings(sampler, switch, attachment.point_names, sampling["phases"])
        self._follow()

    # ---- when ----------------------------------------------------------------------------------

    @property
    def global_step(self) -> int:
        """The number of optimizer steps so far."""
        return self._sampler.step

    @property
    def is_capturing(self) -> bool:
        """Whether passes that run now are captured."""
        return self._sampler.wants_now()

    def step(self, number: int | None = None) -> None:
        """End an optimizer step: all passes since the last call belong to it.

        ``number``: how many there have been, if the trainer counts them; the same number as before
        does nothing. Raises ValueError if it is smaller.
        """
        before = self.global_step
        now = before + 1 if number is None else integer(number, "number")
        if now < before:
            raise ValueError(
                f"steps must not go backwards: got {now} after {before}. load_state_dict() goes "
                "back to a checkpoint"
            )
        if now == before:
            return
        self._switch.drain()
        if not self._removed:
            self._warnings.at_end_of_step(alone=now == before + 1)
        self._sampler.begin_step(now)
        self._warnings.look_for_missed_passes()
        self._follow()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Capture nothing inside a ``with`` block, in any thread."""
        with self._followed(self._sampler.paused()):
            yield

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Count all passes inside a ``with`` block as those of a phase, whatever the mode.

        Each is captured, unless the phase is "train", of which steps are sampled.
        """
        with self._followed(self._sampler.during(checked_phase(phase))):
            yield

    @contextmanager
    def _followed(self, block: AbstractContextManager[None]) -> Iterator[None]:
        try:
            with block:
                self._follow()
                yield
        finally:
            self._follow()

    def _follow(self) -> None:
        """Attach the capture points if passes that run now are captured, and detach them if not."""
        if not self._removed:
            with deferred_interrupts():  # else some stages would take batches, and others not
                self._switch.turn(self._sampler.wants_now())

    def reset(self, phase: str | None = None) -> None:
        """Delete the counts of a phase, or of all.

        Issues an UnmatchedNameWarning for a name that no phase has had so far.
        """
        if phase is not None:
            self._warn_of_unknown(phase)
        self._switch.drain()
        self._switch.forget_lost(phase)
        self._sampler.reset(phase)

    def remove(self) -> None:
        """Take everything off the model. The counts can still be read."""
        self._switch.drain()
        self._removed = True
        self._switch.close()
        self._warnings.look_for_missing_steps()

    # ---- charts --------------------------------------------------------------------------------

    def report(self, phase: str = TRAIN, accuracy: float | None = None, beta: float = 2) -> Report:
        found = super().report(phase, accuracy, beta)
        if phase == TRAIN:
            self._warnings.look_for_missing_steps()
        return found

    def log(self, sink: object, process_group: object = None) -> None:
        """Hand the scalars to a sink: an object with add_scalar, log_metrics or log, or a function.

        A function is called with the scalars and the number of steps. If a sink raises an error, a
        SinkFailedWarning says so, once, and the training goes on.
        """
        check_sink(sink)
        scalars = self.scalars(process_group)
        self._warnings.look_for_missing_steps()
        try:
            hand_to(sink, scalars, self.global_step)
        except Exception as error:
            self._warnings.once(
                id(sink),
                f"{type(sink).__name__} raised {type(error).__name__}: {error}. The training goes "
                "on without what it should have shown",
                SinkFailedWarning,
            )

    # ---- checkpoints ---------------------------------------------------------------------------

    def state_dict(self) -> dict[str, object]:
        """Return everything as integers, strings and tensors, in dicts and lists.

        Call it between steps. torch.load(weights_only=True) reads it.
        """
        self._read_stages()
        return {
            "format": FORMAT,
            "global_step": self.global_step,
            "previous_step": self._sampler.previous_step,
            "layers": sorted(self._layers),
            "firing": self._rule,
            "groups": self._groups or 0,
            "counts": saved_windows(self._sampler.windows),
            "histograms": how_many(self._sampler.windows),
        }

    def load_state_dict(self, state: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Go on from what state_dict() returned; several states, of ranks of a job, are added up.

        Raises TypeError or ValueError, and changes nothing, if it is of other layers, or has
        another firing rule or number of groups. The sampling and the window may differ: of more
        steps than fit, the last are kept.
        """
        loaded = loaded_state(state, self._layers, self._rule, self._groups, self._window)
        self._switch.drain()
        self._sampler.load(*loaded)
        self._warnings.forget_failed_passes()
        self._follow()

    def __getstate__(self) -> object:
        """A copy, also in a pickle, has all counts, and is at no model."""
        self._switch.drain()
        return super().__getstate__()

    def __repr__(self) -> str:
        layers = with_noun(len(self._layers), "layer")
        return f"StateMonitor({layers}, {with_noun(self.global_step, 'step')})"
