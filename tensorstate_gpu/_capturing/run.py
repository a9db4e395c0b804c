"""Run: the capture points of one model."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from tensorstate_gpu._arguments import listed
from tensorstate_gpu._arrays.frameworks import ranks_of
from tensorstate_gpu._capturing.capture_point import CapturePoint, own_point
from tensorstate_gpu._capturing.emptying import empty_together
from tensorstate_gpu._capturing.pass_notes import NoteBlock, PassNotes
from tensorstate_gpu._capturing.rank_merging import merged
from tensorstate_gpu._capturing.rank_run import RankRun
from tensorstate_gpu._capturing.sinks import close_together
from tensorstate_gpu._html import html_table
from tensorstate_gpu._process.progress import ProgressCallback
from tensorstate_gpu._warnings import warn_user
from tensorstate_gpu.errors import NoCapturePoints, NothingCaptured, PassesMissed
from tensorstate_gpu.reporting.layer_names import find_name
from tensorstate_gpu.reporting.measured_network import MeasuredNetwork
from tensorstate_gpu.reporting.text import printable_name, with_noun


class Run(MeasuredNetwork[CapturePoint]):
    """The capture points of one model, by name and in the model's order.

    ``run["conv_1_post_states"]`` is a capture point; so are ``run["conv_1"]``, by the name of the
    layer if it has one capture point only, and ``run[0]``, the first.

    ``with ts.capture(model, "Conv2d") as run:`` creates one. It can be read after the block, copied
    and pickled. Like every mapping it has keys(), values(), items() and get(). For a model that
    build_efficiency_model() returned, use ``Run(model.efficiency_layers)``.

    Examples
    --------
    >>> import numpy as np
    >>> layer = CapturePoint("layer")
    >>> layer.declare(neurons=2)
    >>> layer.append(np.array([[0], [1], [2], [3]] * 20, np.uint8), instances=80)
    >>> run = Run([layer])
    >>> run
    Run(1 layer, 80 states: layer)
    >>> run["layer"].entropy()
    2.0
    """

    __module__ = "tensorstate_gpu"

    has_ended = False  # set when the block of capture() ends
    _listed = "close instance_count labels paused point reset save static_labels sync"

    def __init__(self, points: Iterable[CapturePoint] = ()) -> None:
        self._by_name: dict[str, CapturePoint] = {}
        if own_point(points) is not None:
            raise TypeError("points must be a list of CapturePoints, got one: Run([point])")
        for given in listed(points, "points", "CapturePoints"):
            point = own_point(given)
            if point is None:
                raise TypeError(f"points must be CapturePoints, got {type(given).__name__}")
            if point.name in self._by_name:
                raise ValueError(f"points must have different names; two are called {point.name!r}")
            self._by_name[point.name] = point
            point.new_point_listeners.append(self._insert)

    @property
    def _points(self) -> dict[str, CapturePoint]:
        """The capture points, with those that batches create which a framework still computes."""
        self.drain()
        return self._by_name

    def _insert(self, point: CapturePoint, before: CapturePoint) -> None:
        """Add a capture point that another one has created, after the one that it comes after."""
        points = [*self._by_name.values()]
        points.insert(points.index(before) + 1, point)
        self._by_name = {each.name: each for each in points}

    @property
    def efficiency_layers(self) -> list[CapturePoint]:
        """The capture points, in the model's order."""
        return list(self._points.values())

    def point(self, name: str, *, like: str | None = None) -> CapturePoint:
        """Return the capture point with this name.

        It is created if needed, with the options of the one that is named ``like``, if there is
        one, and else with ``keep="states"``.
        """
        if not isinstance(name, str) or name not in self._by_name:
            model = None if like is None else self._by_name.get(like)
            options = None if model is None else model.options
            self._by_name[name] = CapturePoint(name, options=options)
        return self._by_name[name]

    def __getitem__(self, name: str | int) -> CapturePoint:
        points = self._points
        if isinstance(name, str) and name in points:
            return points[name]
        others = {point.name: point.other_names for point in points.values()}
        return points[find_name(others, name, of="run")]

    def __iter__(self) -> Iterator[str]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)

    @property
    def instance_count(self) -> int:
        """Number of model inputs so far, as the layers have seen them that ran in every pass.

        Raises ValueError if these differ, or if no layer ran in every pass.
        """
        counts = {p.instance_count for p in self._points.values() if _runs_always(p)}
        if len(counts) != 1:
            shown = [*self._points.items()][:_SHOWN_NAMES]
            each = {name: point.instance_count for name, point in shown}
            what = "layers have seen different numbers of inputs" if counts else _NO_FULL_LAYER
            more = ", ..." if len(self._points) > len(each) else ""
            raise ValueError(f"{what}: {each}{more}")
        return counts.pop()

    def labels(
        self, labels: object = None, *, units: object = None, mask: object = None
    ) -> NoteBlock:
        """Set the labels of this thread's next pass: one integer or string per input.

        ``with run.labels(y):`` sets those of all passes that this thread makes in the block,
        whatever calls the model or a part of it: a loop that generates, an encoder alone. Passes of
        other threads have the labels of blocks there. In a block within a block, what is not given
        is that of the outer one. In PyTorch, threads that work for a pass have its labels, too,
        unless several passes run at once: it is not known then for which one they work.

        ``units``: one integer or string per input, which says which inputs belong together: frames
        of a clip, views of one image. They are kept next to the labels; see CapturePoint.units().
        ``mask``: (inputs, positions), true where a position of an input counts: rows of other
        positions, such as padding, are not captured.

        On Keras, all this holds inside a ``with`` block only; without one, a warning says so.

        Raises TypeError or ValueError for anything else. A pass with another number of inputs is
        captured without labels, and a warning says so. So does one after the end of capture(). A
        block raises RuntimeError while another asyncio task of the thread is in one.
        """
        notes = PassNotes.from_arguments(labels, units, mask)
        if self.has_ended and notes.inputs is not None:
            warn_user(
                "the capture has ended, so these labels are of no pass: counts_by(labels) of a "
                "layer takes those of the inputs that were captured, where rows are kept"
            )
        hold = [point.note_next_pass(notes) for point in self._points.values()]
        return NoteBlock(self._by_name.values, notes, needed=not all(hold))

    def static_labels(self, labels: object) -> None:
        """Label the inputs of all later batches of a capture with ``stage_rows=``.

        ``labels``: an int64 tensor on the device of the model, one for each input. It is not
        copied: each batch has the labels that are in it when the batch runs, also in a CUDA graph
        that is replayed. A layer that sees another number of inputs gets none. None ends it.

        Raises TypeError or ValueError for anything else, and without ``stage_rows=``.
        """
        for point in self._points.values():
            point.static_labels(labels)

    def drain(self) -> None:
        """Record what waits in the stages of ``stage_rows=``, as all reading does. Waits for it."""
        for point in list(self._by_name.values()):
            point.intake.wait_for_pending()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Capture nothing inside a ``with`` block, in any thread."""
        block = object()
        paused: dict[CapturePoint, None] = {}

        def pause(point: CapturePoint, _: CapturePoint | None = None) -> None:
            paused[point] = None
            point.intake.pause(block)

        try:
            for point in self._points.values():
                pause(point)
                point.new_point_listeners.append(pause)  # of later calls that a pass shows
            yield
        finally:
            try:
                _go_on(paused, block, pause)
            except BaseException:  # Ctrl-C, before that was deferred
                _go_on(paused, block, pause)
                raise

    def reset(self) -> None:
        """Empty every capture point; in a store, all of them by a single commit."""
        reset_points(list(self._points.values()))

    def close(self) -> None:
        """Commit what was captured; a store made from a path is then free for another writer.

        Needed after build_efficiency_model() with a path, but not after capture(), which closes its
        run. The run can still be read. Calls after the first do nothing.
        """
        with ExitStack() as closing:  # in reverse order; each step, also if another one fails
            closing.callback(self._close_sinks)
            for point in list(self._by_name.values()):
                closing.callback(point.intake.wait_for_pending)

    def _close_sinks(self) -> None:
        close_together(point.intake.sink for point in self._by_name.values())

    def sync(
        self,
        process_group: object = None,
        *,
        layouts: Mapping[str, tuple[object, Sequence[object]]] | None = None,
    ) -> RankRun:
        """Return the layers with the states of all ranks of a job. Collective: all ranks call it.

        Labels, and counts by group, are merged where all ranks have them. What this run has does
        not change. ``process_group``: of torch.distributed, by default that of all ranks.
        ``layouts``: in tensor parallel models, how the plain tensors of layers are spread over
        ranks: ``{"act": (mesh, [Shard(-1)])}``. What layers pass as DTensor is known.

        Raises RuntimeError without a process group, ValueError if this process does not belong to
        it, and RanksDisagree, on every rank, if ranks have captured different layers, other numbers
        of neurons, or with other thresholds; or if another rank raises an error, such as
        MemoryError.
        """

        def points() -> list[CapturePoint]:
            for name, (mesh, placements) in (layouts or {}).items():
                self[name].spread_as(mesh, placements)
            return list(self._points.values())

        return merged(points, ranks_of(process_group))

    @property
    def report_origin(self) -> dict[str, str]:
        """What the page of a report says about where the states are from."""
        points = self.efficiency_layers
        told = points[0].report_origin if points else {}
        try:
            return told | {"number of inputs": f"{self.instance_count:,}"}
        except ValueError:  # layers have seen different inputs, or it is not known
            return told

    def save(self, path: Any, *, progress: ProgressCallback | None = None) -> None:
        """Write all captured rows, or counts where these are kept, to a new store.

        ``progress`` is called with the number of rows written so far, and that of all. Raises
        ValueError if the path exists; no file is left after an error or an interrupt.
        """
        from tensorstate_gpu.store.save import save_points

        save_points(self._points.values(), path, progress)

    def __repr__(self) -> str:
        names, shown = list(self), _SHOWN_NAMES
        listed = ", ".join(map(printable_name, names[:shown])) + (", ..." if names[shown:] else "")
        states = sum(point.state_count for point in self._points.values())
        return f"Run({with_noun(len(self), 'layer')}, {with_noun(states, 'state')}: {listed})"

    def _repr_html_(self) -> str:
        try:
            return self.report()._repr_html_()
        except (NoCapturePoints, NothingCaptured, PassesMissed):
            return html_table(("layer",), [(name,) for name in self])


def reset_points(points: Sequence[CapturePoint]) -> None:
    """Empty capture points; in a store, all of them by a single commit."""
    empty_together([point.intake for point in points])
    for point in points:  # what else they know
        point.reset_states()


def _go_on(
    paused: Iterable[CapturePoint],
    block: object,
    listener: Callable[[CapturePoint, CapturePoint], None],
) -> None:
    """End a pause of capture points, of each whatever fails for another."""
    with ExitStack() as each:
        for point in [*paused]:
            if listener in point.new_point_listeners:
                point.new_point_listeners.remove(listener)
            each.callback(point.intake.go_on, block)


def _runs_always(point: CapturePoint) -> bool:
    """Return whether a layer ran in each pass of its model that has ended, as far as is known."""
    return point.intake.log.facts_to_store().runs_always


_NO_FULL_LAYER = "the number of inputs is unknown, because no layer ran in every pass"
_SHOWN_NAMES = 4  # by repr()
