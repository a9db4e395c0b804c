"""StepSampler: which passes and states a monitor asks for, and their counts by phase and layer."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from tensorstate_gpu._arrays.array_types import NativeArray
from tensorstate_gpu._capturing.sampling import EVAL, TEST, TRAIN
from tensorstate_gpu._capturing.window import CountsWindow
from tensorstate_gpu._layers.batches import Batches, totals
from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu._process.interrupts import deferred_interrupts


class StepSampler:
    """Decides by the number of the step, and keeps what is captured.

    In the phase "train", a step is what step() of the monitor ends. In every other phase, each pass
    is a step, and is captured.

    ``in_training``: whether the model is in training mode. ``windows``: by phase, then by the name
    of the layer's states. ``phases_begun``: those that there may be counts of: of a trainer, or of
    during(). ``has_stepped``: whether a step has ended, since the begin or a checkpoint's state.
    ``was_full``: whether a pass since the step began found no room for states of a layer.
    """

    def __init__(
        self,
        every_n_steps: int,
        states_per_step: int | None,
        window: int | None,
        phases: tuple[str, ...],
        groups: int | None,
    ) -> None:
        self.step = 0
        self.in_training: Callable[[], bool] = lambda: True
        self.windows: dict[str, dict[str, CountsWindow]] = {}
        self.passes_seen = False  # since the step began
        self.has_stepped = self.was_full = False
        self.phases_begun = {TRAIN, EVAL, TEST}
        self.previous_step = -1  # the number before, which need not be smaller by one
        self._every, self._most = every_n_steps, states_per_step
        self._phases, self._window, self._groups = phases, window, groups
        # Blocks of paused(), and of during() with their phases. As objects, they can end twice.
        self._pauses = set[object]()
        self._forced: dict[object, str] = {}
        self._taken: Counter[str] = Counter()  # states of each layer in this step
        self._lock = ForkSafeLock()

    # ---- what is asked for ---------------------------------------------------------------------

    @property
    def phase(self) -> str:
        """The phase of a pass that runs now."""
        if self._forced:
            return [*self._forced.values()][-1]
        return TRAIN if self.in_training() else EVAL

    def wants_now(self) -> bool:
        """Return whether a pass that runs now is captured."""
        phase = self.phase
        if self._pauses or not (self._forced or phase in self._phases):
            return False
        return phase != TRAIN or self._is_due()

    def _is_due(self) -> bool:
        """Return whether the step is the first at or after a multiple of ``every_n_steps``.

        Numbers that grow by more than one, as with several optimizers, may never meet a multiple.
        """
        return self.step // self._every > self.previous_step // self._every

    def begin_step(self, number: int) -> None:
        """End the step, and begin another."""
        with self._lock:
            # Steps that nobody has seen are none of this training, which begins late.
            begins_late = self.step == 0 and not self._taken
            self.previous_step = number - 1 if begins_late else self.step
            self.step = number
            self._taken.clear()
            self.passes_seen = self.was_full = False
            self.has_stepped = True

    @contextmanager
    def paused(self) -> Iterator[None]:
        block = object()
        try:
            # The lock also ends a graph of torch.compile, which would else do this after the graph.
            with self._lock:
                self._pauses.add(block)
            yield
        finally:
            try:
                self._end(block)
            except BaseException:  # Ctrl-C, before that was deferred
                self._end(block)
                raise

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        block = object()
        try:
            with self._lock:
                self._forced[block] = phase
                self.phases_begun.add(phase)
            yield
        finally:
            try:
                self._end(block)
            except BaseException:
                self._end(block)
                raise

    def _end(self, block: object) -> None:
        """End a block of paused() or during(), if it has not ended."""
        with deferred_interrupts(), self._lock:
            self._pauses.discard(block)
            self._forced.pop(block, None)

    def room(self, name: str) -> int | None:
        """Return how many more states of a layer are asked for; None for all."""
        self.passes_seen = True
        if self._most is None or self.phase != TRAIN:
            return self._most
        room = self._most - self._taken[name]
        if not room:
            self.was_full = True
        return room

    def got_all(self, layers: Collection[str]) -> bool:
        """Return whether all these layers had states in this step of training."""
        return self._taken.keys() >= {*layers}

    # ---- what is captured ----------------------------------------------------------------------

    def pass_over(self, name: str, states: int) -> None:
        """Note states that are not asked for, beside those of a layer that were recorded last.

        If reset() has deleted these, it deletes them, too.
        """
        with self._lock:
            window = self.windows.get(self.phase, {}).get(name)
            if states and window is not None:
                window.pass_over(states)

    def record(self, name: str, packed: NativeArray, neurons: int, batches: Batches) -> None:
        """Count packed rows (states, bytes) of a layer, of the inputs that ``batches`` says."""
        phase = self.phase
        with self._lock:
            is_training = phase == TRAIN
            step = self.step if is_training else None
            if totals(batches)[1] == self.room(name):  # some rows may have found no room
                # An input of which no row is taken is no evidence of anything.
                batches = tuple(batch for batch in batches if batch[1])
            self.window_of(phase, name).add(step, packed, neurons, batches)
            if is_training:
                self._taken[name] += totals(batches)[1]

    def reset(self, phase: str | None) -> None:
        """Delete the counts of a phase, or of all."""
        with self._lock:
            for each in [phase] if phase is not None else [*self.windows]:
                self.windows.pop(each, None)
            if phase in (None, TRAIN):
                self._taken.clear()
                self.was_full = False

    def load(
        self, step: int, previous_step: int, windows: dict[str, dict[str, CountsWindow]]
    ) -> None:
        """Go on at the begin of a step, with these counts."""
        with self._lock:
            self.begin_step(step)
            self.has_stepped = False
            self.previous_step = previous_step
            self.windows = windows

    def window_of(self, phase: str, name: str) -> CountsWindow:
        """Return the counts of a layer in a phase; new ones if there are none yet."""
        layers = self.windows.setdefault(phase, {})
        if name not in layers:
            layers[name] = CountsWindow(self._window, self._groups)
        return layers[name]
