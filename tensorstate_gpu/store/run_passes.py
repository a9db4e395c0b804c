"""RunPasses: the forward passes of the runs that are captured into one store at the same time."""

from collections.abc import Iterable

from tensorstate_gpu._layers.broken_passes import PassClock, PassStarts


class RunPasses:
    """The passes of one run, or of all capture points that belong to none.

    ``names``: of its layers that may still run. ``ended``: whether a pass has.
    """

    def __init__(self, *, are_of_run: bool = False) -> None:
        self.names: set[str] = set()
        self._clocks: dict[str, PassClock] | None = {} if are_of_run else None  # by layer
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget earlier passes: those to come are of other layers."""
        self.starts, self.ended = PassStarts(), False

    def follow(self, name: str, clock: PassClock | None) -> None:
        """Let the clock of its model tell when passes begin; a run has one model."""
        if self._clocks is not None and clock is not None:
            self._clocks[name] = self.starts.clock = clock

    def finish(self, name: str) -> None:
        """Let a layer run no more."""
        self.names.discard(name)
        if self._clocks is not None:
            self._clocks.pop(name, None)
            self.starts.clock = next(reversed(self._clocks.values()), None)


class PassesByRun:
    """The runs of a store, by layer: each has passes of its own, which may break."""

    def __init__(self) -> None:
        self._runs: dict[object, RunPasses] = {}
        self._by_layer: dict[str, RunPasses] = {}
        self._of_none = RunPasses()  # of a layer that was removed, say
        self._first: RunPasses | None = None
        self._begun_beside = 0  # passes of others, in which something waited for the first run

    def add(self, name: str, run: object) -> RunPasses:
        """Add a layer to a run; None: to the points that belong to none. Return its passes."""
        if run not in self._runs:
            self._runs[run] = RunPasses(are_of_run=run is not None)
        passes = self._by_layer[name] = self._runs[run]
        passes.names.add(name)
        return passes

    def finish(self, names: Iterable[str]) -> None:
        """Let layers run in no pass from now on."""
        for name in names:
            passes = self._by_layer.pop(name, self._of_none)
            passes.finish(name)
            if not passes.names:
                passes.begin_anew()
                self._runs = {run: each for run, each in self._runs.items() if each is not passes}
                if self._first is passes:
                    self._first = None

    def of_layer(self, name: str) -> RunPasses:
        """Return the passes in which a layer runs."""
        return self._by_layer.get(name, self._of_none)

    def of_runs(self, *run: object) -> list[RunPasses]:
        """Return the passes of a run, if it has layers; of all runs, if none is given."""
        if not run:
            return list(self._runs.values())
        return [self._runs[each] for each in run if each in self._runs]

    def is_first(self, passes: RunPasses) -> bool:
        """Return whether runs that take turns, such as a teacher and a student, begin with this.

        Asked when a pass of it begins for which something waits. Another run is the first one
        from now on, if that one seems to rest.
        """
        self._begun_beside = 0 if passes is self._first else self._begun_beside + 1
        if self._first is None or self._begun_beside > 10 * len(self._runs):
            self._first, self._begun_beside = passes, 0
        return passes is self._first
