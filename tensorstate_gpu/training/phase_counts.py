"""PhaseCounts: what a monitor has counted, by phase of training and by layer, and its measures."""

import dataclasses
from collections.abc import Collection, Mapping

from tensorstate_gpu._arrays.frameworks import ranks_of
from tensorstate_gpu._capturing.sampling import TRAIN, Switch
from tensorstate_gpu._capturing.window import CountsWindow
from tensorstate_gpu._states.grouped_counts import GroupedCounts
from tensorstate_gpu._states.rank_exchange import agreed
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._warnings import warn_user
from tensorstate_gpu.errors import NothingCaptured, UnmatchedNameWarning
from tensorstate_gpu.reporting import Report
from tensorstate_gpu.reporting.layer_names import find_name
from tensorstate_gpu.reporting.layer_profile import LayerProfile
from tensorstate_gpu.reporting.layer_report import NOT_BY_GROUP, LayerReport, Measured
from tensorstate_gpu.reporting.network_report import checked_accuracy, summarise
from tensorstate_gpu.training.over_ranks import counts_over_ranks
from tensorstate_gpu.training.scalars import Scalars, phase_scalars
from tensorstate_gpu.training.step_sampler import StepSampler


class PhaseCounts:
    """The counts that a sampler has of each phase and layer."""

    def __init__(self, sampler: StepSampler, switch: Switch, layers: Collection[str]) -> None:
        """``switch``: of the capture points at the model. ``layers``: their names."""
        self._sampler, self._switch, self._layers = sampler, switch, layers
        self._warned_of: set[str] = set()

    def counts(self, name: str, phase: str = TRAIN) -> StateCounts:
        """Return how often each state of a layer occurred in a phase.

        ``name``: of the layer, or of its states: "conv" or "conv_post_states". Raises KeyError for
        an unknown name, NothingCaptured if no pass of the phase was captured.
        """
        return self._window_of(name, phase).counts()

    def grouped(self, name: str, phase: str = TRAIN) -> GroupedCounts:
        """Return the same by group of inputs, which needs ``groups``: it shows standard errors."""
        return self._window_of(name, phase).grouped()

    def passed_over(self, name: str, phase: str = TRAIN) -> int:
        """Return how many states of captured steps were left out, as ``states_per_step`` asks."""
        return self._window_of(name, phase).passed_over

    def scalars(self, process_group: object = None) -> Scalars:
        """Return the measures of each phase and layer, by names such as ``train/efficiency/conv``.

        ``process_group``: merge the counts of its ranks first; each of them must call this.
        """
        return {
            name: value
            for phase in self._phases_over_ranks(process_group)
            for name, value in self.phase_scalars(phase, f"{phase}/", process_group).items()
        }

    def report(self, phase: str = TRAIN, accuracy: float | None = None, beta: float = 2) -> Report:
        """Return the measures of all layers in a phase, as a table that has figures and a page.

        Of this process; with ``groups``, with ranges of the layers whose inputs are known.
        ``accuracy``, ``beta``: as for ts.report(). Raises NothingCaptured if no pass of the phase
        was captured.
        """
        checked_accuracy(accuracy, beta)
        checked_phase(phase)
        self._read_stages()
        windows = self._sampler.windows.get(phase, {})
        full = {name: window for name, window in windows.items() if window.neurons}
        if not full:
            raise self._nothing_captured("monitor", phase)
        axes = {point.name: (point.axis, point.axis_origin) for point in self._switch.points}
        measured = [
            _measured(name, window, *axes.get(name, (None, None))) for name, window in full.items()
        ]
        missing = [name for name in self._layers if name not in full]
        found = summarise(measured, accuracy, beta, missing)
        origin = {"phase of training": phase, "steps": f"{self._sampler.step:,}"}
        return dataclasses.replace(found, origin=origin)

    def _phases_over_ranks(self, process_group: object) -> list[str]:
        """Return the phases that some rank has captured, in one order."""

        def own() -> list[str]:
            self._read_stages()
            return list(self._sampler.windows)

        if process_group is None:
            return own()
        everywhere = agreed(ranks_of(process_group), own)
        return sorted({phase for each in everywhere for phase in each})

    def phase_scalars(self, phase: str, prefix: str = "", process_group: object = None) -> Scalars:
        """Return the measures of one phase, with another beginning of their names.

        There are none if no pass of the phase was captured. Issues an UnmatchedNameWarning if no
        phase has had its name so far.
        """
        checked_phase(phase)

        def windows() -> Mapping[str, CountsWindow]:
            self._read_stages()
            return self._sampler.windows.get(phase, {})

        if process_group is not None:
            found = phase_scalars(prefix, counts_over_ranks(windows, self._layers, process_group))
        else:
            counts = {name: window.counts() for name, window in windows().items()}
            found = phase_scalars(
                prefix, {name: part for name, part in counts.items() if part.total}
            )
        if not found:
            self._warn_of_unknown(phase)
        return found

    def _warn_of_unknown(self, phase: str) -> None:
        """Warn, once for each, of a name that no phase has had: it may be misspelt.

        It is no error: a training goes on, and a phase may have no name before its first during().
        """
        known = {*self._sampler.phases_begun, *self._sampler.windows}
        if checked_phase(phase) not in known and phase not in self._warned_of:
            self._warned_of.add(phase)
            so_far = ", ".join(map(repr, sorted(known)))
            warn_user(f"no phase {phase!r} so far; there are {so_far}", UnmatchedNameWarning)

    def _read_stages(self) -> None:
        """Count what waits in stages. Raises RowsLost if some rows have found no room there."""
        self._switch.drain()
        self._switch.check_complete()

    def _window_of(self, name: str, phase: str) -> CountsWindow:
        checked_phase(phase)
        self._read_stages()
        others = {point.name: point.other_names for point in self._switch.points}
        # Of later calls, a checkpoint may have counts before they are made again.
        others = dict.fromkeys(self._sampler.windows.get(phase, {}), ()) | others
        found = find_name(others, name, of="monitor")
        window = self._sampler.windows.get(phase, {}).get(found)
        if window is None or not window.neurons:
            raise self._nothing_captured(found, phase)
        return window

    def _nothing_captured(self, what: str, phase: str) -> NothingCaptured:
        phases = ", ".join(self._sampler.windows) or "none"
        return NothingCaptured(
            f"{what}: nothing captured in the phase {phase!r}; phases so far: {phases}"
        )


def checked_phase(phase: object) -> str:
    """Return the name of a phase. Raises TypeError unless it is a text of at least one letter."""
    if not isinstance(phase, str) or not phase:
        raise TypeError(f"phase must be a non-empty str, got {phase!r}")
    return phase


def _measured(
    name: str, window: CountsWindow, axis: int | None, axis_origin: str | None
) -> Measured:
    try:
        estimate = window.grouped().estimate("efficiency")
    except NOT_BY_GROUP:
        estimate = None
    counts = window.counts()
    measures = LayerReport.of(name, counts, estimate)
    placed = dataclasses.replace(measures, axis=axis, axis_origin=axis_origin)
    return Measured(placed, estimate, LayerProfile.of(name, counts))
