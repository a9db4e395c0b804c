"""Keras 3: StateCapture, a layer that captures, also inside graphs and jit."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

try:
    import keras
except ImportError as error:
    raise ImportError("Keras layers need keras: pip install keras tensorflow") from error

from tensorstate_gpu._arrays.elements import ELEMENT_TYPES
from tensorstate_gpu._arrays.thresholds import firing_test
from tensorstate_gpu._capturing.capture_point import AbstractStateCapture, check_switch
from tensorstate_gpu._capturing.options import CaptureKeywords, CaptureOptions, takes_options
from tensorstate_gpu._layers.layer_states import LayerStates
from tensorstate_gpu._listed_names import listed_names
from tensorstate_gpu.errors import NotCapturable

from .backends import capture_tensor, outside_of_graphs, supports_jit
from .copied_points import config_of_place, put_in_place
from .host_calls import may_call_host
from .masks import own_mask
from .points import KerasPoint
from .tensors import first_tensor, has_no_neurons, unsupported_reason
from .this_call import in_symbolic_call, is_uncounted, number_of_this_call
from .training_mode import check_available, takes_call

# The attributes that a StateCapture layer forwards to its capture point: everything that reads
# states, and what users call; not what only bridges call.
_FORWARDED_NAMES = frozenset(name for name in dir(LayerStates) if not name.startswith("_")) | {
    *("capture_on", "close", "flush", "report_origin", "reset_states")
}

_OPTIONS = frozenset(CaptureKeywords.__annotations__)


class CaptureLayerType(type(keras.layers.Layer)):  # type: ignore[misc]
    """The class of StateCapture: capture points of models are instances of it, too.

    In TensorState the capture points of Keras are such layers, so programs ask for this class, and
    switch all points off by its attribute.
    """

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, KerasPoint) or super().__instancecheck__(instance)

    @property
    def capture_on(cls) -> bool:
        """Whether capture points of Keras capture."""
        return KerasPoint.capture_on

    @capture_on.setter
    def capture_on(cls, value: bool) -> None:
        check_switch(value)
        KerasPoint.capture_on = value

    @capture_on.deleter
    def capture_on(cls) -> None:
        del KerasPoint.capture_on


@keras.saving.register_keras_serializable(package="tensorstate_gpu")
class StateCapture(keras.layers.Layer, metaclass=CaptureLayerType):  # type: ignore[misc]
    """A Keras layer that returns its input unchanged, and captures its states.

    It can be placed anywhere in a model. From a structure of tensors, it captures the first one
    that has axes; a dict has the order of its keys. Read the results from the layer as from a
    CapturePoint: ``layer.efficiency()``, ``layer.counts()``. Every executed call is captured: in
    ``fit``, ``evaluate``, ``predict`` and direct calls, also inside tf.function and jax.jit.
    Symbolic calls are not.

    The parameters are those of CapturePoint. By default, ``neuron_axis`` is 1 if the image data
    format is channels_first and the input has four or five axes, and the last axis otherwise.

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
        point: KerasPoint | None = None,
        **keywords: Any,
    ) -> None:
        own: Any = {option: keywords.pop(option) for option in _OPTIONS if option in keywords}
        check_available(CaptureOptions.from_arguments(disk_path, own))
        # Without autocast: mixed precision would convert the input before it is captured.
        layer_name = name and re.sub("[/:]", ".", name)  # which no scope of TensorFlow may contain
        super().__init__(name=layer_name, autocast=False, **keywords)
        self.supports_masking = True
        self.point = point or KerasPoint(name or self.name, disk_path, **own)
        if point is None and isinstance(self.point.options.mask, str):
            raise NotCapturable(
                "mask= names an input of a model, which a layer by itself does not know: use "
                "capture() or build_efficiency_model(), or mask=True for Keras' own masks"
            )

    def build(self, *_: Any) -> None:
        """Nothing to build: the layer has no weights."""
        self.built = True

    def call(self, inputs: Any) -> Any:
        return Probe(self.point).capture(inputs, lambda: own_mask(self, inputs))

    def compute_output_spec(self, inputs: Any) -> Any:
        Probe(self.point).capture(inputs)
        return keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), inputs)

    @property
    def supports_jit(self) -> bool:
        return supports_jit()

    @supports_jit.setter
    def supports_jit(self, value: bool) -> None:
        """Ignored: Keras sets it for every layer, but here the backend decides."""

    def get_config(self) -> dict[str, Any]:
        if self.point.firing is not None:
            raise ValueError(f"{self.name}: firing= is a function, which cannot be saved")
        threshold = self.point.threshold
        own = {
            "name": self.point.name,  # with what a layer's name must not contain
            "keep": self.point.keep,
            "threshold": list(threshold) if isinstance(threshold, tuple) else threshold,
            "neuron_axis": self.point.neuron_axis,
            "when": self.point.options.when,
            "mask": self.point.options.mask is True or None,
            "merge_calls": self.point.options.merge_calls,
            "groups": self.point.options.groups,
            "place_in_model": config_of_place(self.point),
        }
        # Without the path: a loaded model must not write to the store of the saved one.
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "StateCapture":
        place = config.get("place_in_model")  # which files of earlier versions lack
        own = {name: value for name, value in config.items() if name != "place_in_model"}
        layer: StateCapture = super().from_config(own)
        if place is not None:
            put_in_place(layer.point, place)
        return layer

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(_FORWARDED_NAMES & listed_names(KerasPoint))})

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "capture_on":
            self.point.capture_on = value
        else:
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name in _FORWARDED_NAMES and "point" in self.__dict__:
            return getattr(self.point, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _no_mask() -> None:
    """Return no mask."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A capture point at one place of a model: before or after a layer.

    ``later``: those of later calls of the layer. ``sites``: the numbers of its calls, by the nodes
    of the model's graphs.
    """

    point: KerasPoint
    later: tuple["Probe", ...] = ()
    sites: Mapping[Any, int] = field(default_factory=dict)

    def of_this_call(self) -> "Probe":
        """Return the probe of the call of the layer that is being made."""
        if not self.later:
            return self
        return (self, *self.later)[number_of_this_call(self.sites) - 1]

    def of_call(self, node: Any) -> "Probe":
        """Return the probe of the call that a node of a graph makes."""
        return (self, *self.later)[self.sites.get(node, 1) - 1]

    @outside_of_graphs
    def capture(self, value: Any, own_mask: Callable[[], Any] = _no_mask) -> Any:
        """Capture the first tensor, and return the value to continue with.

        Inside a graph, the returned tensor ensures that the capture is executed. ``own_mask``:
        returns Keras' own mask of the tensor, or None.
        """
        return self.of_this_call()._capture(value, own_mask)

    def _capture(self, value: Any, own_mask: Callable[[], Any]) -> Any:
        tensor = first_tensor(value)
        if tensor is None:
            raise TypeError(f"{self.point.name}: no tensor in {type(value).__name__}")
        if self.point.model_passes is not None and has_no_neurons(tensor):
            example = f"as one with shape {tuple(tensor.shape)}"
            self.point.tell_of_left_out("that leave no axis of neurons", example)
            return value
        if isinstance(tensor, keras.KerasTensor):
            self.check(tensor)
        if in_symbolic_call(tensor):
            self.point.note_symbol(tensor.shape)
            return value
        if not takes_call(self.point.options) or is_uncounted():
            return value
        if not may_call_host():
            cause = "where JAX does not let them call the host"
            self.point.tell_of_left_out("inside jax.checkpoint (keras.remat)", cause)
            return value
        mask = own_mask() if self.point.options.mask is True else None
        captured = capture_tensor(self.point, tensor, self.check(tensor), mask)
        if captured is tensor:
            return value
        return keras.tree.map_structure(lambda part: captured if part is tensor else part, value)

    def check(self, tensor: Any) -> int:
        """Return the neuron axis of a tensor or a symbolic tensor.

        Raises TypeError or ValueError if it cannot be captured. For a symbolic tensor, this
        includes a number of neurons that does not fit the thresholds; packing checks that for a
        tensor.
        """
        point = self.point
        if problem := unsupported_reason(tensor):
            raise TypeError(f"{point.name}: {problem}")
        ndim = len(tensor.shape)
        axis = self.point.axis_of(ndim)
        if not -ndim <= axis < ndim:
            raise ValueError(f"{point.name}: neuron_axis must be in [-{ndim}, {ndim}), got {axis}")
        if isinstance(tensor, keras.KerasTensor) and tensor.shape[axis] is not None:
            try:
                firing_test(ELEMENT_TYPES[tensor.dtype], point.threshold, tensor.shape[axis])
            except ValueError as error:
                raise ValueError(f"{point.name}: {error}") from None
        return axis


AbstractStateCapture.register(StateCapture)
