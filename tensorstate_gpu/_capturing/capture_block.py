"""capture(): capture points for the duration of a ``with`` block."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from types import TracebackType
from typing import Any, NoReturn, Unpack

from tensorstate_gpu._capturing.attachment import (
    Attachment,
    Method,
    check_store_layers,
    plan_attachment,
    release_names,
)
from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._capturing.choosing import Missing
from tensorstate_gpu._capturing.options import CaptureKeywords, takes_options
from tensorstate_gpu._capturing.pass_marks import PassMarks
from tensorstate_gpu._capturing.run import Run
from tensorstate_gpu._process.interrupts import deferred_interrupts

_USAGE = "capture() captures inside a block only: with ts.capture(model, ...) as run:"


class CaptureBlock(AbstractContextManager[Run, None]):
    """What ``capture()`` returns: nothing is attached before a ``with`` statement enters it."""

    def __init__(self, block: AbstractContextManager[Run, bool | None]) -> None:
        self._block = block
        self._has_begun = False

    def __enter__(self) -> Run:
        if self._has_begun:
            raise RuntimeError(
                "what capture() returns begins once: call ts.capture(model, ...) again"
            )
        self._has_begun = True
        return self._block.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._block.__exit__(kind, error, traceback)

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(_USAGE, name=name, obj=self)

    def __getitem__(self, name: object) -> NoReturn:
        raise TypeError(_USAGE)

    def __iter__(self) -> NoReturn:
        raise TypeError(_USAGE)

    def __repr__(self) -> str:
        return f"<{_USAGE}>"


@takes_options
def capture(
    model: Any,
    attach_to: Any = None,
    exclude: Any = (),
    method: Method = "after",
    storage_path: Any = None,
    *,
    missing: Missing = "error",
    **options: Unpack[CaptureKeywords],
) -> CaptureBlock:
    """Capture inside a ``with`` block; these capture points are detached when it ends.

    Takes the same parameters as build_efficiency_model. Capture points that the model already has
    are not touched. The Run can be read after the block. A store made from a path is then closed,
    and can be opened with ``mode="a"`` at once; a Store that you opened stays open. If an exception
    ends the block in the middle of a forward pass, that pass is discarded.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    >>> with capture(model, "Linear") as run:
    ...     _ = model(torch.ones(10, 3))
    >>> run["0_post_states"].state_count
    10
    """
    plan = functools.partial(
        plan_attachment, model, attach_to, exclude, method, storage_path, missing=missing, **options
    )
    return CaptureBlock(_captured(model, plan))


@contextmanager
def _captured(model: object, plan: Callable[[], Attachment]) -> Iterator[Run]:
    attachment, marks = plan(), PassMarks()
    points, run = _begun(model, attachment, marks)
    try:
        yield run
    except BaseException:
        if attachment.options.stage_rows is None:
            _discard_broken_pass(run, marks)
        else:
            for point in points:
                point.discard_broken_pass()
        if not any(point.state_count for point in run.efficiency_layers):
            release_names(run.efficiency_layers)  # nothing was captured: delete a new, empty store
        raise
    finally:
        run.has_ended = True
        with closing(run), deferred_interrupts():  # also Ctrl-C leaves no store open
            attachment.bridge.detach(points)
            marks.release()


def _begun(
    model: object, attachment: Attachment, marks: PassMarks
) -> tuple[Sequence[CapturePoint], Run]:
    """Attach all capture points, or none, and return them with their run."""
    bridge = attachment.bridge
    # The model lives as long as the block, so no other run has its id meanwhile.
    options = dataclasses.replace(attachment.options, run=id(model))
    points: Sequence[CapturePoint] = ()
    try:
        with deferred_interrupts():  # between hooks, some would stay at the model
            points = bridge.attach_in_place(model, attachment.chosen, attachment.method, options)
        attachment.tell(points)
        for point in points:
            point.intake.follow_passes()
        run = Run(points)
        check_store_layers(options.disk_path)
        if options.disk_path is None and options.stage_rows is None:
            _mark_passes(points, marks)
    except BaseException:  # for example, two layers with the same name
        with deferred_interrupts():
            bridge.detach(points)
            release_names(points)
        raise
    return points, run


def _mark_passes(points: Sequence[CapturePoint], marks: PassMarks) -> None:
    for point in points:
        point.intake.begin_marks(marks)
        point.new_point_listeners.append(lambda new, _: new.intake.begin_marks(marks))


def _discard_broken_pass(run: Run, marks: PassMarks) -> None:
    points = run.efficiency_layers
    stored = [point.intake.sink.discard_broken_pass() for point in points]
    if marks.discard_broken_pass() or any(stored):
        for point in points:
            point.intake.log.leave_out_failed_pass()
