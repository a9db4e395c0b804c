"""MonitorOfTrainer: the monitor of a callback, through epochs and restarts of its trainer."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Unpack

from tensorstate_gpu._arguments import integer
from tensorstate_gpu._arrays.frameworks import ranks_of
from tensorstate_gpu._capturing.choosing import as_patterns
from tensorstate_gpu._capturing.sampling import EVAL, TRAIN
from tensorstate_gpu._states.rank_exchange import in_step
from tensorstate_gpu.training.monitor import StateMonitor
from tensorstate_gpu.training.monitor_options import MonitorKeywords, check_without_model
from tensorstate_gpu.training.saved_state import together


class MonitorOfTrainer:
    """Creates the monitor when the trainer has a model, and the next one with the counts so far.

    ``monitor``: None before that. Without a window, the counts of training begin anew with each
    epoch.
    """

    def __init__(
        self, attach_to: object, exclude: object, **options: Unpack[MonitorKeywords]
    ) -> None:
        self.monitor: StateMonitor | None = None
        attach_to, exclude = as_patterns(attach_to), as_patterns(exclude)  # read for each monitor
        check_without_model(attach_to, exclude, options)
        self._attach_to, self._exclude, self._options = attach_to, exclude, options
        self._model: object = None
        self._epoch = -1
        self._loaded: Mapping[str, Any] | None = None  # before there is a monitor

    @property
    def is_at_model(self) -> bool:
        """Whether the monitor is at a model now."""
        return self._model is not None

    @property
    def epoch(self) -> int:
        """The number of the epoch; -1 before the first."""
        return self._epoch

    def captures(self, phase: str) -> bool:
        """Return whether passes of a phase, "train" or "eval", are captured."""
        return phase in self._options.get("phases", (TRAIN, EVAL))

    @contextmanager
    def in_block(self, model: object) -> Iterator[StateMonitor]:
        """Yield the monitor of a model, which leaves it at the end unless it was there before.

        While another model is trained, it is one of its own, and that of the training stays.
        """
        if self._model is model:
            yield self.begin(model)
            return
        monitor = self.begin(model) if self._model is None else self._created(model)
        try:
            yield monitor
        finally:
            if monitor is self.monitor:
                self.end()
            else:
                monitor.remove()

    def _created(self, model: object) -> StateMonitor:
        return StateMonitor(model, self._attach_to, self._exclude, **self._options)

    def begin(self, model: object) -> StateMonitor:
        """Return the monitor of a model, at which it is from now on, and at no other."""
        if self.monitor is None or self._model is not model:
            earlier = self.state_dict()
            self.end()
            self.monitor = self._created(model)
            self._model = model
            if earlier:
                self.load_state_dict(earlier)
        return self.monitor

    def begin_training(self, model: object, step: int) -> None:
        """Begin or go on with a training that has made so many steps.

        If there were more before, it is another training, and nothing of the earlier one is kept.
        """
        monitor = self.begin(model)
        if step < monitor.global_step:
            monitor.remove()
            self.monitor, self._epoch = None, -1
            self._loaded = None
            monitor = self.begin(model)
        if step > monitor.global_step:  # without counts of the steps before
            monitor.step(step)

    def end(self) -> None:
        """Take the monitor off its model. Its counts can still be read."""
        if self.monitor is not None and self.is_at_model:
            self.monitor.remove()
        self._model = None

    def begin_epoch(self, number: int) -> None:
        """Begin an epoch, or go on with the one that was interrupted."""
        if number != self._epoch and self.monitor is not None:
            self._epoch = number
            if self._options.get("window") is None:
                self.monitor.reset(TRAIN)

    def step(self, number: int) -> bool:
        """End the step of the trainer that has this number; return whether it was captured."""
        assert self.monitor is not None
        captured, before = self.monitor.is_capturing, self.monitor.global_step
        self.monitor.step(number)
        return captured and number > before

    def __getstate__(self) -> dict[str, Any]:
        """A copy is at no model, and has the counts so far."""
        return {**vars(self), "monitor": None, "_model": None, "_loaded": self.state_dict()}

    def state_dict(self) -> dict[str, Any]:
        """Return the counts so far for a checkpoint; nothing if there are none."""
        if self.monitor is None:
            return dict(self._loaded or {})
        return {"epoch": self._epoch, "monitor": self.monitor.state_dict()}

    def state_of_ranks(self, process_group: object) -> dict[str, Any]:
        """Return the counts of all ranks at the first, nothing at others. Collective."""
        ranks = ranks_of(process_group)
        states = ranks.gathered(in_step(ranks, self.state_dict), 0)
        return {} if states is None else {"ranks": [state for state in states if state]}

    def load_share(self, state: Mapping[str, Any], rank: int, ranks: int) -> None:
        """Go on with the counts of this rank, or with its share of those of other ranks.

        ``state``: of one process, which the first rank goes on with, or what state_of_ranks() has
        returned, of however many ranks.
        """
        own = [each for each in list(state.get("ranks", [state]))[rank::ranks] if each]
        if own:
            monitors = [each["monitor"] for each in own]
            self.load_state_dict({**own[0], "monitor": together(monitors)})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint, now or when there is a monitor."""
        if self.monitor is None:
            self._loaded = state
        elif state:
            self.monitor.load_state_dict(state["monitor"])
            self._epoch = integer(state["epoch"], "epoch")
