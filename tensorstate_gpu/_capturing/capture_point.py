"""CapturePoint: captures and measures the states of one layer, for any framework."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._capturing.input_shape import neurons_from_shape, sizes_of
from tensorstate_gpu._capturing.intake import Intake
from tensorstate_gpu._capturing.options import CaptureKeywords, CaptureOptions, takes_options
from tensorstate_gpu._capturing.pass_notes import PassNotes
from tensorstate_gpu._capturing.point_states import PointStates
from tensorstate_gpu._capturing.run_origin import origin_of_options
from tensorstate_gpu._capturing.spread import Spread
from tensorstate_gpu._layers.batches import Batches
from tensorstate_gpu.errors import NotCapturable
from tensorstate_gpu.reporting.layer_names import name_of_call


class CapturePoint(PointStates):
    """Captures and measures the states of one layer, at its input or its output.

    A capture point can be used from several threads. Copies and pickles of it have everything
    captured so far. If the rows are in a store, a copy reads them there, and takes no more.

    ``capture_on = False`` makes a capture point ignore what its layer passes, until it is True
    again; set on a class, all its capture points. Run.paused() is for a ``with`` block.

    Parameters
    ----------
    name : str
    disk_path : str, path or Store, optional
        Keep the rows in a store instead of in memory: a new store at this path, which capture
        points with the same path share, or a Store that you have opened.
    keep : "states" or "counts"
        "states" keeps every packed row, in order. "counts" keeps only how often each distinct state
        occurred; memory is then bounded by the number of distinct states, or with ``disk_path``
        by get_memory_limit().
    threshold : real number, or one per neuron
        A neuron fires if its activation is greater than the threshold.
    firing : function of one number that returns a bool, optional
        Decides whether a neuron fires, instead of a threshold; see compress_states.
    neuron_axis : int, optional
        The axis of the neurons. By default, the framework's bridge finds it. Where layers are
        captured together, also a dict of axes by layer (a name or a glob), or a function (name,
        layer) that returns an axis or None.
    batch_axis : int
        The axis of a model's inputs along which its instances lie: 1 for models whose inputs are
        (sequence, batch, ...). PyTorch only.
    mask : str or True, optional
        The argument of the model, or the input of a functional model of Keras, that is its mask
        (inputs, positions), such as "attention_mask": rows of positions where it is zero are not
        captured. True stands for the mask that Keras makes itself, as in Embedding(mask_zero=True).
        A name is for layers of a model that are captured together; Run.labels() takes a mask
        itself.
    merge_calls : bool
        Whether the calls of a module within one forward pass share a capture point, as those of a
        recurrent cell. By default, each has its own: ``relu_post_states``, ``relu:2_post_states``.
        PyTorch and Keras.
    when : "train", "eval" or function (model) -> bool, optional
        Which forward passes are captured: those of a model in training mode, those of a model that
        is not, or those for which a function returns True; it is called once per pass. By default,
        all are. Where layers of a model are captured together; Keras takes no function.
    compressor : numcodecs codec, optional
        Compresses rows in memory. The default is None: states of wide layers hardly compress, and a
        codec is slower than packing (docs/performance.md).
    groups : int, optional
        Count the states of so many groups of instances apart, for errors of measures; see
        grouped(). With keep="states", reading does it, by default for 32. With keep="counts", the
        default is not to: groups take time and memory (docs/statistics.md).
    stage_rows : int, optional
        So many packed rows may wait on the device until they are read. Captures can then be a part
        of a CUDA graph. Where layers of a PyTorch model are captured together (docs/pytorch.md).

    Raises
    ------
    TypeError, ValueError
        An option is invalid, or ``compressor`` is combined with ``keep="counts"``. Every measure
        raises ValueError while nothing is captured.

    Examples
    --------
    Without a model, of packed states:

    >>> point = CapturePoint("relu")
    >>> point.declare(neurons=2)
    >>> point.append(np.array([[0], [1], [3], [3]], np.uint8), instances=4)
    >>> point.entropy(), point.efficiency()
    (1.5, 0.75)
    """

    __module__ = "tensorstate_gpu"

    _listed = "append close declare flush labels record reset_states"
    capture_on: bool = True
    takes_stage_rows = False
    may_be_slice = False  # whether these may be some of the layer's neurons only: nothing tells
    is_optional = False  # whether "*" alone chose the layer: skipped if it cannot be captured

    @takes_options
    def __init__(
        self,
        name: str,
        disk_path: Any = None,
        *,
        options: CaptureOptions | None = None,
        call_of: str | None = None,
        **keywords: Unpack[CaptureKeywords],
    ) -> None:
        """``options``, ``call_of``: of points that bridges create; see LayerFacts."""
        if not isinstance(name, str) or not name:
            raise TypeError(f"name must be a non-empty str, got {name!r}")
        self.name = name
        if not isinstance(options, CaptureOptions | None):
            raise TypeError(f"options must be CaptureOptions, got {type(options).__name__}")
        self.options = options or CaptureOptions.from_arguments(disk_path, keywords)
        if self.options.stage_rows is not None and not self.takes_stage_rows:
            raise ValueError(
                f"{name}: stage_rows= is for layers of a PyTorch model that are captured together: "
                "use capture() or build_efficiency_model()"
            )
        if not isinstance(self.options.neuron_axis, int | None):
            axis = self.options.neuron_axis
            raise TypeError(f"neuron_axis of one capture point must be an int, got {axis!r}")
        self.intake = Intake(name, self.options, call_of)
        # Called with a capture point that this one has created, and the one that it comes after.
        self.new_point_listeners: list[Callable[[CapturePoint, CapturePoint], None]] = []
        self.later_calls: Sequence[CapturePoint] = ()  # of the same layer, within a pass
        self.spread = None
        # What the page of a report says of the model and of the arguments that have attached it.
        self.origin: Mapping[str, str] = {}

    @property
    def report_origin(self) -> dict[str, str]:
        """What the page of a report says about where the states are from."""
        return dict(self.origin or origin_of_options(self.options))

    def declare(self, neurons: int, axis: int | None = None) -> None:
        """Set the number of neurons and their axis. Raises ValueError if they change."""
        self.intake.declare(neurons, axis)

    def append(
        self, packed: NDArray[np.uint8], instances: int, labels: Any = None, units: Any = None
    ) -> None:
        """Add a batch of packed rows: uint8 (instances * states per instance, bytes).

        ``labels``, ``units``: one integer or string per instance. Raises TypeError or ValueError,
        and adds nothing, if the rows do not fit the declared neurons or the instances, if bits
        beyond the last neuron are set, or if the labels do not fit the instances.
        """
        self.intake.append(packed, instances, labels, units)

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
        """Add a batch that a bridge has packed, unless capture_on is False; see Intake.record()."""
        if self.capture_on:
            self.intake.record(
                packed, neurons, axis, instances, axis_origin, inputs_unknown, spatial_shape
            )

    def takes_batch(self) -> bool:
        """Return whether a batch that the layer passes now is captured."""
        return self.capture_on and self.intake.is_open

    def discard_broken_pass(self) -> None:
        """Drop rows of a pass that an exception has ended, if they wait in a stage."""

    def labels(self, labels: object) -> None:
        """Set the labels of the next batches: one integer or string per instance.

        None removes the labels that were set.
        """
        self.note(PassNotes.from_arguments(labels, None, None))

    def note(self, notes: PassNotes) -> None:
        """Set what is said about the inputs of the next batches."""
        self.intake.pending_notes = notes

    @property
    def block_notes(self) -> PassNotes:
        """What is said about the inputs of this thread's passes, in a block; see Run.labels()."""
        return self.intake.scope.notes

    def begin_notes(self, notes: PassNotes) -> None:
        """Let notes hold for all batches of this thread, in place of those of the next batches."""
        self.intake.begin_notes(notes)

    def note_next_pass(self, notes: PassNotes) -> bool:
        """Set the notes of this thread's next forward pass, where passes are known: in PyTorch.

        Elsewhere it does the same as note(). Returns whether the notes hold then.
        """
        self.note(notes)
        return True

    def static_labels(self, labels: object) -> None:
        """See Run.static_labels(). Raises ValueError: only captures with stage_rows= have some."""
        raise ValueError(f"{self.name}: static labels are for captures with stage_rows=")

    def answer_to(self, names: Sequence[str]) -> None:
        """Set the names that the capture point has besides its own: those of a tied layer."""
        self.intake.log.other_names = tuple(names)
        for number, point in enumerate(self.later_calls, 2):
            point.answer_to([name_of_call(name, number) for name in names])

    def reset_states(self, input_shape: Any = None) -> None:
        """Delete everything captured, in memory and on disk.

        ``input_shape``: the shape of future activations; its neuron axis sets the number of
        neurons. That is the axis that activations of the layer have, and the last where nothing is
        known of a layer. An invalid shape raises TypeError or ValueError, and nothing is deleted.
        """
        if input_shape is None:
            self.intake.reset(None, None)
            self.spread = None
            return
        sizes = self._sizes_with_neurons(sizes_of(input_shape))
        axis = self._axis_for(sizes)
        self.intake.reset(neurons_from_shape(axis, sizes), axis)
        self.spread = None

    def _sizes_with_neurons(self, sizes: tuple[object, ...]) -> tuple[object, ...]:
        """Return the sizes of activations as they are packed, whose neurons have an axis."""
        return sizes

    def _axis_for(self, sizes: Sequence[object]) -> int:
        """Return the neuron axis of activations of this shape, before there are any."""
        return -1 if self.neuron_axis is None else self.neuron_axis

    def spread_as(self, mesh: object, placements: Sequence[object]) -> None:
        """Note how plain tensors are spread over ranks; see Run.sync()."""
        raise TypeError(f"{self.name}: layouts= is for layers of PyTorch")

    def use_spread(self, spread: Spread, own: int) -> None:
        """Note how the states are spread over ranks, of which this one has ``own`` neurons.

        Raises NotCapturable if it is a slice that is kept so that it cannot be joined.
        """
        if spread.has_slices and (self.keep == "counts" or self.disk_path is not None):
            raise NotCapturable(
                f"{self.name}: this rank has {own} of {spread.neurons} neurons, and only rows in "
                'memory can be joined with those of other ranks: keep="states", without a store'
            )
        self.spread = spread

    def flush(self) -> None:
        """Commit buffered rows, if they are kept in a store."""
        self.intake.flush()

    def close(self) -> None:
        """Commit what was captured; see Run.close(). It can still be read."""
        self.intake.close()

    def __setattr__(self, name: str, value: object) -> None:
        if name == "capture_on":
            check_switch(value)
            self.intake.wait_for_pending()  # batches that were passed before
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        intake = copy.copy(self.intake)
        return {
            **vars(self),
            "intake": intake,
            "options": intake.options,
            "new_point_listeners": [],
            "later_calls": (),
        }

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, keep={self.keep!r}, "
            f"neurons={self.neurons}, {self.state_count:,} states)"
        )


def check_switch(value: object) -> None:
    """Raise TypeError for a value of ``capture_on`` that is no bool."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"capture_on must be a bool, got {value!r}")


def own_point(given: object) -> CapturePoint | None:
    """Return a capture point itself, and that of a StateCapture layer; None for other objects."""
    point: object = getattr(given, "point", given)
    return point if isinstance(point, CapturePoint) else None


AbstractStateCapture = CapturePoint
