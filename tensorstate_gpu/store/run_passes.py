"""RunPasses: the forward passes of the runs that are captured into one store at the same time."""

from collections.abc import Collection, Iterable, Mapping

from tensorstate_gpu._layers.broken_passes import PassClock, PassStarts
from tensorstate_gpu.store.batch_source import BatchSource
from tensorstate_gpu.store.written_layer import WrittenLayer


class RunPasses:
    """The passes of one run, or of all capture points that belong to none.

    ``layers``: those of the store that have had batches, or had rows before.
    ``names``: of the layers of the run that may still run. ``ended``: whether a pass has.
    """

    def __init__(self, layers: Mapping[str, WrittenLayer], *, are_of_run: bool = False) -> None:
        self._of_store = layers
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

    def remove(self, name: str) -> None:
        """Forget a layer."""
        self.names.discard(name)
        self.starts.leave(name)
        if self._clocks is not None:
            self._clocks.pop(name, None)
            self.starts.go_on_with(next(reversed(self._clocks.values()), None))

    @property
    def layers(self) -> list[WrittenLayer]:
        """The layers of the run that have had batches, or had rows before."""
        found = map(self._of_store.get, [*self.names])  # another thread may add some meanwhile
        return [layer for layer in found if layer is not None]

    def mark_end(self) -> None:
        """Remember the end of a pass, in all layers of the run."""
        layers = self.layers
        self.ended = bool(layers)
        for layer in layers:
            layer.mark_pass_end()

    def are_complete(self) -> bool:
        """Return whether all layers of the run have seen the same since the last mark."""
        seen = {each.instances_in_pass for each in self.layers}
        return len(seen) <= 1 and (self.ended or not seen or self.names <= self._of_store.keys())

    def are_stored_whole(self) -> bool:
        """Return whether the rows of the run that are stored are of whole passes."""
        return len({layer.stored_in_pass for layer in self.layers}) <= 1

    def are_broken(self, sources: Mapping[str, BatchSource]) -> bool:
        """Return whether the last pass did not get to all layers of the run, after an exception.

        Not if it ran beside another, whose batches are among those since the mark.
        """
        own = [each for name, each in sources.items() if name in self.names]
        if any(source.passes_overlap() for source in own):
            return False
        in_pass = [source.in_pass() for source in own]
        return self.starts.are_broken(self._progress(), in_pass)

    def _progress(self) -> list[tuple[int, bool]]:
        """Return the instances of each layer in a pass, and whether it runs in every pass."""
        own = [(each.instances_in_pass, each.runs_always) for each in self.layers]
        # Passes may have failed before they came to some layers, all of which had no batch then.
        if self.starts.knows_pass or not self.ended:
            own += [(0, False)] * len(self.names - self._of_store.keys())
        return own


class PassesByRun:
    """The runs of a store, by layer: each has passes of its own, which may break.

    ``layers``: those of the store that have had batches, or had rows before.
    """

    def __init__(self, layers: Mapping[str, WrittenLayer]) -> None:
        self._layers = layers
        self._runs: dict[object, RunPasses] = {}
        self._by_layer: dict[str, RunPasses] = {}
        self._finished = RunPasses(layers)  # of layers whose model has kept their capture points
        self._first: RunPasses | None = None
        self._waited = 0  # how many passes have begun since a commit could be made

    def add(self, name: str, run: object) -> RunPasses:
        """Add a layer to a run; None: to the points that belong to none. Return its passes."""
        self.remove([name])
        if run not in self._runs:
            self._runs[run] = RunPasses(self._layers, are_of_run=run is not None)
        return self._put(name, self._runs[run])

    def finish(self, names: Collection[str]) -> None:
        """Let passes of layers break no more. They may run on."""
        self.remove(names)
        self._finished.begin_anew()
        for name in names:
            self._put(name, self._finished)

    def remove(self, names: Iterable[str]) -> None:
        """Forget layers."""
        for name in names:
            passes = self._by_layer.pop(name, self._finished)
            passes.remove(name)
            if not passes.names:
                passes.begin_anew()
                self._runs = {run: each for run, each in self._runs.items() if each is not passes}
                if self._first is passes:
                    self._first = None

    def _put(self, name: str, passes: RunPasses) -> RunPasses:
        passes.names.add(name)
        self._by_layer[name] = passes
        return passes

    def of_layer(self, name: str) -> RunPasses:
        """Return the passes in which a layer runs."""
        return self._by_layer.get(name, self._finished)

    def of_runs(self, *run: object) -> list[RunPasses]:
        """Return the passes of a run, if it has layers; of all runs, if none is given."""
        if not run:
            return list(self._runs.values())
        return [self._runs[each] for each in run if each in self._runs]

    def is_turn(self, passes: RunPasses, *, is_due: bool) -> bool:
        """Return whether a commit may be made when a pass begins, as far as its run is concerned.

        Runs that take turns, such as a teacher and a student, begin with the same one each time:
        the one that did so first. If a commit is due, and another run is in the middle of a pass,
        perhaps all others run within its passes: that one comes first from now on. Nothing waits
        long for a run that rests, or whose last pass has failed, or that another thread makes.
        """
        others = (each for each in self.of_runs() if is_due and each is not passes)
        around = next((each for each in others if not each.are_complete()), None)
        self._waited += 1
        has_waited = self._waited > 10 * len(self._runs)
        if self._first is None or has_waited:
            self._first = passes
        if self._first is not passes:
            return False
        if around is not None and not has_waited:
            self._first = around
            return False
        self._waited = 0
        return True
