"""Keras 3: functional models, rebuilt from the same layers with capture layers in between."""

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

try:
    import keras
except ImportError as error:
    raise ImportError("Keras layers need keras: pip install keras tensorflow") from error
from keras.src.models import functional

from tensorstate_gpu._capturing.capture_point import CapturePoint

from .copied_points import join
from .layers import Probe, StateCapture
from .passes import ModelPasses
from .points import KerasPoint
from .tensors import first_tensor

Probes = dict[int, dict[str, Probe]]


@keras.saving.register_keras_serializable(package="tensorstate_gpu")
class Functional(functional.Functional):  # type: ignore[misc]
    """A functional model with capture layers, in the layer order of the original model.

    Keras orders layers, and so weights, by their depth, which capture layers change. ``order``
    lists the names of the layers in the original order; without it, the order is computed. This
    class and Sequential are named like those of Keras, because files of nested models contain the
    names.
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any) -> None:
        order = kwargs.pop("order", None) or _original_layer_order(inputs, outputs)
        # Bypass Keras's __setattr__: it needs what super().__init__() sets, which in turn reads
        # self.layers and so self._order.
        object.__setattr__(self, "_order", {name: number for number, name in enumerate(order)})
        super().__init__(inputs, outputs, name=name, **kwargs)

    @property
    def layers(self) -> list[Any]:
        return sorted(super().layers, key=self._sort_key)

    def _sort_key(self, layer: Any) -> tuple[int, int]:
        """Return a layer's position: an added layer comes after the layer that feeds it."""
        steps = 0
        while layer.name not in self._order:
            if layer._inbound_nodes[0].is_input:
                return -1, 0
            layer = layer._inbound_nodes[0].input_tensors[0]._keras_history.operation
            steps += 1
        return self._order[layer.name], steps

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "order": list(self._order)}


@keras.saving.register_keras_serializable(package="tensorstate_gpu")
class Sequential(Functional):
    """A functional model that replaces a Sequential model inside another model."""


@keras.saving.register_keras_serializable(package="tensorstate_gpu")
class EfficiencyModel(Functional):
    """The model that build_efficiency_model makes from a functional model.

    Its copies, and models loaded from its files, have ``efficiency_layers`` too; these are empty.
    ``model_passes`` counts the passes of the model.
    """

    model_passes: ModelPasses | None = None

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any) -> None:
        names = kwargs.pop("efficiency_layers", None)
        super().__init__(inputs, outputs, name=name, **kwargs)
        points = self.points_of_layers
        if names is None:  # clone_model() passes no names: without layers that were placed by hand
            names = [name for name, point in points.items() if point.number_in_copy]
        if names:
            self.efficiency_layers = [points[name] for name in names]
        if (passes := join(points.values())) is not None:
            self.model_passes = passes
            list_new_points(self, points.values())

    def call(self, inputs: Any, training: Any = None, mask: Any = None, **kwargs: Any) -> Any:
        kwargs |= {"training": training, "mask": mask}
        if self.model_passes is None:
            return super().call(inputs, **kwargs)
        return self.model_passes.around(self, super().call, (inputs,), kwargs)

    def get_config(self) -> dict[str, Any]:
        found = [point.name for point in getattr(self, "efficiency_layers", ())]
        # Those of calls that passes have shown are not in the graph.
        names = [name for name in found if name in self.points_of_layers]
        return {**super().get_config(), "efficiency_layers": names}

    @property
    def points_of_layers(self) -> dict[str, KerasPoint]:
        """The capture points of its capture layers, by name."""
        captures = (layer for layer in functional_layers(self) if isinstance(layer, StateCapture))
        return {layer.point.name: layer.point for layer in captures}


def list_new_points(model: Any, points: Iterable[KerasPoint]) -> None:
    """Add points that passes show to ``efficiency_layers``, which Keras keeps as a list of its own.

    ``points``: those from which such points come.
    """
    reference = weakref.ref(model)

    def insert(point: CapturePoint, before: CapturePoint) -> None:
        layers = getattr(reference(), "efficiency_layers", [])
        if before in layers:
            layers.insert(layers.index(before) + 1, point)

    for point in points:
        point.new_point_listeners.append(insert)


# HDF5 files contain the name without the package.
keras.saving.get_custom_objects()["EfficiencyModel"] = EfficiencyModel


def _original_layer_order(inputs: Any, outputs: Any) -> list[str]:
    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return args[0] if isinstance(layer, StateCapture) else layer(*args, **kwargs)

    return [layer.name for layer in _rebuild(keras.Model(inputs, outputs), call).layers]


def is_functional(model: Any) -> bool:
    """Return whether a model consists only of layers and connections, unlike a subclass."""
    if type(model) is keras.Sequential:
        return model._functional is not None  # None unless the input is a single tensor
    return type(model) in (functional.Functional, Functional, Sequential, EfficiencyModel)


def has_graph(model: Any) -> bool:
    """Return whether Keras runs a model by its graph: a functional one, also of a class of its own.

    Such a model cannot be rebuilt from its layers, as its class may do more.
    """
    graph = functional.Functional
    return is_functional(model) or (isinstance(model, graph) and type(model).call is graph.call)


def children(layer: Any) -> list[Any]:
    found = layer._flatten_layers(include_self=False, recursive=False)
    return [child for child in found if isinstance(child, keras.layers.Layer)]


def functional_layers(model: Any) -> Iterator[Any]:
    """Yield the layers of a functional model, and of functional models nested in it."""
    for layer in children(model):
        yield layer
        if is_functional(layer):
            yield from functional_layers(layer)


def with_captures(model: Any, probes: Probes) -> Any:
    """Return a new model of the same layers, with capture layers where there are probes."""
    places = probes.get(id(model), {})
    call = _inserter(probes)
    if "before" in places:
        call = _with_captured_input(model, places["before"].point, call)
    copy = _restore_layer_order(model, _rebuild(model, call), EfficiencyModel)
    if "after" not in places:
        return copy
    point = places["after"].point
    whole = keras.Model(copy.input, StateCapture(point.name, point=point)(copy.output))
    whole.output_names = copy.output_names
    return _restore_layer_order(model, whole, EfficiencyModel)


def _with_captured_input(model: Any, point: KerasPoint, call: Callable[..., Any]) -> Any:
    """Return a function like ``call``, whose layers take the first input of a model captured."""
    name = first_tensor(model.inputs).name
    capture, captured = StateCapture(point.name, point=point), {}

    def replaced(value: Any) -> Any:
        history = getattr(value, "_keras_history", None)
        if history is None or history.operation.name != name:
            return value
        if id(value) not in captured:
            captured[id(value)] = capture(value)
        return captured[id(value)]

    def call_with_captured(layer: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = keras.tree.map_structure(replaced, (args, kwargs))
        return call(layer, *args, **kwargs)

    return call_with_captured


def without_captures(model: Any, points: Sequence[Any]) -> Any:
    """Return a new model of the same layers, without those of these capture points."""
    copies: dict[int, Any] = {}

    def is_removed(layer: Any) -> bool:
        return isinstance(layer, StateCapture) and layer.point in points

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if is_removed(layer):
            return args[0]
        if is_functional(layer) and any(map(is_removed, functional_layers(layer))):
            if id(layer) not in copies:
                copies[id(layer)] = _rebuild(layer, call)
            layer = copies[id(layer)]
        return layer(*args, **kwargs)

    return _rebuild(model, call)


def _inserter(probes: Probes) -> Callable[..., Any]:
    """Return a function that calls a layer of the new model, with capture layers around it."""
    capture_layers: dict[str, StateCapture] = {}
    copies: dict[int, Any] = {}

    def capture(probe: Probe, value: Any) -> Any:
        name = probe.point.name
        if name not in capture_layers:
            capture_layers[name] = StateCapture(name, point=probe.point)
        return capture_layers[name](value)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        places = {at: probe.of_this_call() for at, probe in probes.get(id(layer), {}).items()}
        if "before" in places:
            args, kwargs = map_first_argument(lambda x: capture(places["before"], x), args, kwargs)
        nested = is_functional(layer) and any(
            id(inner) in probes for inner in functional_layers(layer)
        )
        if nested and id(layer) not in copies:
            kind = Sequential if type(layer).__name__ == "Sequential" else Functional
            copies[id(layer)] = _restore_layer_order(layer, _rebuild(layer, call), kind)
        result = copies.get(id(layer), layer)(*args, **kwargs)
        return capture(places["after"], result) if "after" in places else result

    return call


def map_first_argument(
    function: Callable[[Any], Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call, with ``function`` applied to the first one."""
    if args:
        return (function(args[0]), *args[1:]), kwargs
    first = next(iter(kwargs))
    return args, {**kwargs, first: function(kwargs[first])}


def _rebuild(model: Any, call: Callable[..., Any]) -> Any:
    """Rebuild a functional model from the same layers, each called by ``call``; not compiled."""
    if isinstance(model, keras.Sequential):  # its .input changes with each call
        ends = model.inputs[0], model._functional.output
    else:
        ends = model.input, model.output
    plain = keras.Model(*ends, name=model.name)
    copy = keras.models.clone_model(plain, clone_function=lambda layer: layer, call_function=call)
    copy.output_names = list(plain.output_names)  # not the names of capture layers
    return copy


def _restore_layer_order(model: Any, copy: Any, kind: Callable[..., Any]) -> Any:
    order = [layer.name for layer in model.layers]
    ordered = kind(copy.input, copy.output, name=copy.name, order=order)
    ordered.output_names = copy.output_names
    return ordered
