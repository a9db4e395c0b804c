"""Keras 3: CalledPoint, a capture point of a layer that has more, for its later calls in a pass."""

from typing import Any, Self, cast

from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu.reporting.layer_names import name_of_call

from .passes import LayerPasses, ModelPasses, Pass

MOST_PASSES = 64  # that threads make at the same time, whose calls are numbered


class PassCalls:
    """Numbers the calls of a layer within each pass: 1, 2, ..."""

    def __init__(self) -> None:
        self._passes: dict[int, _CallsOfPass] = {}  # the last ones, by their time

    def number(self, clock: int, place: object) -> int:
        """Return the number of a call; calls from the same ``place``, if that is told, share one.

        ``clock``: the time of the pass.
        """
        if clock not in self._passes:
            self._passes[clock] = _CallsOfPass()
            for over in [*self._passes][:-MOST_PASSES]:
                self._passes.pop(over, None)
        return self._passes[clock].number(place)

    def __reduce__(self) -> tuple[Any, ...]:
        return PassCalls, ()  # a copy makes passes of its own; places cannot be pickled


class _CallsOfPass:
    def __init__(self) -> None:
        self._calls = 0
        self._numbers: dict[object, int] = {}  # by place

    def number(self, place: object) -> int:
        if place in self._numbers:
            return self._numbers[place]
        self._calls += 1
        if place is not None:
            self._numbers[place] = self._calls
        return self._calls


class CalledPoint(CapturePoint):
    """A capture point that knows the passes of the model, and calls within them.

    A graph of Keras tells of some calls before any pass; ``first`` has the points of those, too.
    Calls that code makes appear in the first pass in which they are made.
    """

    model_passes: ModelPasses | None = None  # of the model that it captures
    first: Self | None = None  # of the calls of the same layer, unless it is this one
    _pass_log: LayerPasses | None = None
    _of_store: tuple[Self, ...] = ()  # of later calls, not made yet, of which a store has rows
    _of_code: tuple[Self, ...] = ()  # of later calls that code makes

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._calls = PassCalls()

    def belong_to(self, passes: ModelPasses) -> None:
        """Count in which passes of a model the layer runs, and take their masks."""
        self.model_passes = passes
        self._pass_log = self.intake.log.pass_source = LayerPasses(passes.times)

    @property
    def numbers_calls(self) -> bool:
        """Whether calls in a pass have capture points of their own."""
        return self.model_passes is not None and not self.options.merge_calls

    def of_call(self, place: object, passed: Pass | None) -> Self:
        """Return the capture point of the call that is being made in a pass; see PassCalls."""
        if passed is None or not self.numbers_calls:
            return self
        number = self._calls.number(passed.time, place)
        if number == 1:
            return self
        if len(self._of_code) < number - 1:
            self._add_later_calls(number - 1)
        return self._of_code[number - 2] if number - 2 < len(self._of_code) else self

    def _add_later_calls(self, wanted: int) -> None:
        first = cast(Self, self if self.first is None else self.first)
        takes_new = self.intake.is_open and self.capture_on
        with first.intake.lock:  # other threads may be at the same call
            while len(self._of_code) < wanted and takes_new:
                self._of_code = (*self._of_code, first._later_call())

    def points_of_store(self) -> tuple[Self, ...]:
        """Create the points of later calls that the store already has rows of."""
        while self.intake.sink.holds(name_of_call(self.name, len(self.later_calls) + 2)):
            self._of_store = (*self._of_store, self._new_later_call())
        return self._of_store

    def _later_call(self) -> Self:
        with self.intake.lock:
            if not self._of_store:
                return self._new_later_call()
            point, *rest = self._of_store
            self._of_store = tuple(rest)
            return point

    def _new_later_call(self) -> Self:
        """Create the capture point of another call of the layer."""
        before = self.later_calls[-1] if self.later_calls else self
        point = self._new_of_call(name_of_call(self.name, len(self.later_calls) + 2))
        point.answer_to(
            [name_of_call(name, len(self.later_calls) + 2) for name in self.other_names]
        )
        point.first, point.model_passes = self, self.model_passes
        if self._pass_log is not None:
            point._pass_log = point.intake.log.pass_source = self._pass_log.of_later_call()
        point.intake.axis_origin = self.intake.axis_origin
        point.intake.pending_notes, point.intake.scope = (
            self.intake.pending_notes,
            self.intake.scope,
        )
        self.later_calls = (*self.later_calls, point)
        for tell in self.new_point_listeners:
            tell(point, before)
        point.new_point_listeners = self.new_point_listeners
        return point

    def _new_of_call(self, name: str) -> Self:
        return type(self)(name, options=self.options, call_of=self.name)
