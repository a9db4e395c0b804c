"""CapturePoint: the framework-neutral probe. A bridge feeds it, a user reads its measures."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import positive_integer
from tensorstate_gpu._arrays.firing_function import FiringFunction as Fires
from tensorstate_gpu._capturing.intake import Intake
from tensorstate_gpu._capturing.options import CaptureKeywords, CaptureOptions, takes_options
from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.layer_states import Readings
from tensorstate_gpu._process.locks import ForkSafeLock
from tensorstate_gpu.errors import NothingCaptured


class CapturePoint(Readings):
    """The states of one layer at one place, as they are captured.

    Parameters
    ----------
    name : str
    disk_path : str, path or Store, optional
        Keep the rows in a store, instead of in memory: a new one at this path, which the capture
        points of one program share, or one that was opened with options of its own.
    keep : "states" or "counts"
        Every packed row, in order; or only how often each distinct one occurred, in memory bounded
        by the distinct states.
    threshold : real number, or one per neuron
        A neuron fires when its activation is greater.
    firing : function of one number that returns a bool, optional
        Decides instead of a threshold, as in compress_states.
    neuron_axis : int, optional
        The axis whose entries are the bits of a state; a bridge chooses one where it is None.
    compressor : numcodecs codec, optional
        For rows kept in memory. None by default: the states of wide layers hardly shrink, and a
        codec is slower than the packing itself (docs/performance.md).

    A capture point is safe to use from several threads. Copies and pickles of it are empty, and
    keep their rows in memory.

    Raises
    ------
    TypeError, ValueError
        For an unknown ``keep``, or ``disk_path`` with ``keep="counts"``. Every measure raises
        ValueError while nothing has been captured.
    """

    __module__ = "tensorstate_gpu"

    @takes_options
    def __init__(
        self,
        name: str,
        disk_path: Any = None,
        *,
        options: CaptureOptions | None = None,
        **keywords: Unpack[CaptureKeywords],
    ) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"name must be a non-empty str, got {name!r}")
        self.name = name
        self.options = CaptureOptions.of(disk_path, keywords) if options is None else options
        self.intake = Intake(name, self.options)

    @property
    def keep(self) -> str:
        """ "states" or "counts"."""
        return self.options.keep

    @property
    def threshold(self) -> Any:
        """A number, or a tuple of one per neuron."""
        return self.options.threshold

    @property
    def firing(self) -> Fires | None:
        """The function that decides instead of a threshold."""
        return self.options.firing

    @property
    def neuron_axis(self) -> int | None:
        """The axis that the user chose; ``axis`` is the one in use."""
        return self.options.neuron_axis

    @property
    def disk_path(self) -> Any:
        """The store, or its path, in which rows are kept; None: in memory."""
        return self.options.disk_path

    # ---- capturing -----------------------------------------------------------------------------

    def declare(self, neurons: int, axis: int | None = None) -> None:
        """Say how many neurons a state has, and along which axis; ValueError on a change."""
        self.intake.declare(neurons, axis)

    def append(self, packed: NDArray[np.uint8], instances: int, labels: Any = None) -> None:
        """Keep the rows of a batch: uint8 (instances x states per instance, bytes), in order.

        Raises TypeError or ValueError, and keeps nothing, when the rows do not fit the declared
        neurons or the instances, have bits set beyond the neurons, or the labels are not one per
        instance.
        """
        self.intake.append(packed, instances, labels)

    def labels(self, labels: Any) -> None:
        """Label the instances of the next batches, one integer or string each; None ends it."""
        self.intake.pending_labels = labels

    def reset_states(self, input_shape: Any = None) -> None:
        """Forget everything captured, on disk too.

        ``input_shape``: the shape of the activations to come; the neuron axis of it (by default the
        last) says how many neurons they have. A bad one raises TypeError or ValueError, and
        nothing is forgotten.
        """
        axis = -1 if self.neuron_axis is None else self.neuron_axis
        neurons = None if input_shape is None else _size_along(axis, input_shape)
        self.intake.reset(neurons, axis)

    def flush(self) -> None:
        """Commit what is still buffered, where rows are kept in a store."""
        self.intake.flush()

    # ---- reading -------------------------------------------------------------------------------

    @property
    def axis(self) -> int | None:
        """The axis along which the neurons lay in the first batch; None before it."""
        with self._reading():
            return self.intake.axis

    def attributes(self) -> dict[str, Any]:
        """How states come about, as JSON: neuron_axis, and threshold or firing."""
        return self.intake.attributes()

    def _there(self) -> Accumulator | None:
        return self.intake.accumulator

    def _reading(self) -> ForkSafeLock:
        """The lock, when nothing is on its way any more: who records needs it too."""
        self.intake.settle()
        return self.intake.lock

    def _empty(self) -> NothingCaptured:
        return NothingCaptured(
            f"{self.name}: nothing captured yet. Run the model; a layer that is never called "
            "captures nothing (exclude= it), nor does a hook attached after the first compiled call"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "options": dataclasses.replace(self.options, disk_path=None)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.intake = Intake(self.name, self.options)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, keep={self.keep!r}, "
            f"neurons={self.neurons}, {self.state_count:,} states)"
        )


def _size_along(axis: int, input_shape: Any) -> int:
    if isinstance(input_shape, str) or not isinstance(input_shape, Iterable):
        raise TypeError(f"input_shape must be a sequence of sizes, got {input_shape!r}")
    sizes = tuple(input_shape)
    if not -len(sizes) <= axis < len(sizes):
        raise ValueError(f"input_shape {sizes} has no neuron axis {axis}")
    return positive_integer(sizes[axis], f"input_shape[{axis}]")


AbstractStateCapture = CapturePoint
