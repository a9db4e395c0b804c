"""Keras 3: layers that capture, inside graphs and jit too."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

try:
    import keras
except ImportError as error:
    raise ImportError("Keras layers need keras: pip install 'tensorstate_gpu[keras]'") from error

from tensorstate_gpu._arrays.elements import ELEMENT_TYPES
from tensorstate_gpu._arrays.thresholds import firing_test as firing
from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._capturing.options import CaptureKeywords, takes_options
from tensorstate_gpu._layers.layer_states import Readings

from .backends import first_dtype_problem, in_symbolic_call, see, supports_jit

# What a StateCapture layer offers of its capture point: all that can be read of it, and what a
# user may do with it; not what bridges feed it by.
_OF_THE_POINT = frozenset(name for name in dir(Readings) if not name.startswith("_")) | {
    *("axis", "flush", "reset_states")
}


_OPTIONS = frozenset(CaptureKeywords.__annotations__)


class KerasPoint(CapturePoint):
    """A capture point that is fed by Keras, batch by batch, until it is detached."""

    _unwrap: Callable[[], None] | None = None

    def detach_with(self, unwrap: Callable[[], None]) -> None:
        """Call ``unwrap`` when it is detached: it unwraps the calls that this point watches."""
        self._unwrap = unwrap

    def detach(self) -> None:
        """Take no more batches: what was traced meanwhile may still bring some."""
        self.intake.stop()
        unwrap, self._unwrap = self._unwrap, None
        if unwrap is not None:
            unwrap()

    def labels(self, labels: Any) -> None:
        """Refused: Keras cuts inputs into batches. Labels go to counts_by(labels) afterwards."""
        if labels is not None:
            raise ValueError(
                f"{self.name}: Keras cuts inputs into batches that labels cannot follow; give them "
                'afterwards, counts_by(labels), with keep="states"'
            )


@keras.saving.register_keras_serializable(package="tensorstate_gpu")
class StateCapture(keras.layers.Layer):  # type: ignore[misc]
    """A layer that gives back what it gets, and captures the states of it.

    It may stand anywhere in a model. Of several tensors the first is looked at. What it captured is
    read from the layer itself, as from a CapturePoint: ``layer.efficiency()``, ``layer.counts()``.
    Captured are calls that are really executed, in ``fit``, ``evaluate``, ``predict`` and by hand,
    also inside tf.function and jax.jit; not captured are symbolic calls.

    Parameters are those of CapturePoint. ``neuron_axis`` is 1 by default where the image data
    format is channels_first and inputs have four or five axes, else the last.

    Examples
    --------
    >>> import keras, numpy as np
    >>> capture = StateCapture("dense_states")
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), capture])
    >>> _ = model.predict(np.ones((10, 3)), verbose=0)
    >>> capture.state_count, capture.max_entropy()
    (10, 4)
    """

    __module__ = "tensorstate_gpu"

    @takes_options
    def __init__(
        self,
        name: str | None = None,
        disk_path: Any = None,
        *,
        point: CapturePoint | None = None,
        **keywords: Any,
    ) -> None:
        own = {option: keywords.pop(option) for option in _OPTIONS if option in keywords}
        # Without autocast: mixed precision would convert what is to be looked at.
        super().__init__(name=name and name.replace("/", "."), autocast=False, **keywords)
        self.supports_masking = True
        self.point = point or KerasPoint(name or self.name, disk_path, **own)

    def build(self, *_: Any) -> None:
        """There is nothing to build."""
        self.built = True

    def call(self, inputs: Any) -> Any:
        return Probe(self.point).see(inputs)

    def compute_output_spec(self, inputs: Any) -> Any:
        Probe(self.point).see(inputs)
        return keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), inputs)

    @property
    def supports_jit(self) -> bool:
        return supports_jit()

    @supports_jit.setter
    def supports_jit(self, value: bool) -> None:
        """Keras sets it for every layer; ours is decided by the backend."""

    def get_config(self) -> dict[str, Any]:
        if self.point.firing is not None:
            raise ValueError(f"{self.name}: firing= is a function, which cannot be saved")
        threshold = self.point.threshold
        own = {
            "name": self.point.name,  # with its slashes, which the layer's own must not have
            "keep": self.point.keep,
            "threshold": list(threshold) if isinstance(threshold, tuple) else threshold,
            "neuron_axis": self.point.neuron_axis,
        }
        # A path is left out: a model that is loaded must not write where another one did.
        return {**super().get_config(), **own}

    def __getattr__(self, name: str) -> Any:
        if name in _OF_THE_POINT and "point" in self.__dict__:
            return getattr(self.point, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


@dataclass(frozen=True, slots=True)
class Probe:
    """A capture point at one place of a model."""

    point: CapturePoint

    def see(self, value: Any) -> Any:
        """Capture the first tensor; give back the same structure, to be used from here on."""
        tensors = keras.tree.flatten(value)
        if not tensors:
            raise TypeError(f"{self.point.name}: no tensor in {type(value).__name__}")
        if isinstance(tensors[0], keras.KerasTensor):
            self.check(tensors[0])
        if in_symbolic_call(tensors[0]):
            return value
        seen = see(self.point, tensors[0], self.check(tensors[0]))
        return value if seen is tensors[0] else _with_first(value, seen)

    def check(self, tensor: Any) -> int:
        """The neuron axis of a tensor or symbol.

        TypeError or ValueError for what cannot be captured. The neurons of a symbol are compared
        with the thresholds, if they are known; packing does that for a tensor.
        """
        point = self.point
        if problem := first_dtype_problem(tensor):
            raise TypeError(f"{point.name}: {problem}")
        ndim = len(tensor.shape)
        axis = self._axis(ndim)
        if not -ndim <= axis < ndim:
            raise ValueError(f"{point.name}: neuron_axis must be in [-{ndim}, {ndim}), got {axis}")
        if isinstance(tensor, keras.KerasTensor) and tensor.shape[axis] is not None:
            try:
                firing(ELEMENT_TYPES[tensor.dtype], point.threshold, tensor.shape[axis])
            except ValueError as error:
                raise ValueError(f"{point.name}: {error}") from None
        return axis

    def _axis(self, ndim: int) -> int:
        if self.point.neuron_axis is not None:
            return self.point.neuron_axis
        return 1 if keras.config.image_data_format() == "channels_first" and ndim in (4, 5) else -1


def _with_first(value: Any, tensor: Any) -> Any:
    return keras.tree.pack_sequence_as(value, [tensor, *keras.tree.flatten(value)[1:]])
