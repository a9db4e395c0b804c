"""Keras 3: functional models, made again of the same layers with capture layers between them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

try:
    import keras
except ImportError as error:
    raise ImportError("Keras layers need keras: pip install 'tensorstate_gpu[keras]'") from error
from keras.src.models import functional

from .layers import Probe, StateCapture

Probes = dict[int, dict[str, Probe]]


@keras.saving.register_keras_serializable(package="tensorstate_gpu")
class Functional(functional.Functional):  # type: ignore[misc]
    """A functional model with capture layers in it, and the order of the model without them.

    Keras orders layers, and so weights, by their depth, which capture layers change. ``order``
    names the layers as they stood; where it is missing, Keras is asked for it. This class and the
    next have the names of Keras's own, under which the weights of nested models are saved.
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any) -> None:
        order = kwargs.pop("order", None) or _order_without_captures(inputs, outputs)
        # Not as Keras sets attributes: that needs what is made next, and this asks for the layers.
        object.__setattr__(self, "_order", {name: number for number, name in enumerate(order)})
        super().__init__(inputs, outputs, name=name, **kwargs)

    @property
    def layers(self) -> list[Any]:
        return sorted(super().layers, key=self._place)

    def _place(self, layer: Any) -> tuple[int, int]:
        """A layer's number; one that came later stands behind what it is called with."""
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
    """What was a Sequential model inside another one."""


@keras.saving.register_keras_serializable(package="tensorstate_gpu")
class EfficiencyModel(Functional):
    """What build_efficiency_model makes of a functional model.

    Its copies, and what is loaded from its files, have ``efficiency_layers`` too: empty ones.
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any) -> None:
        names = kwargs.pop("efficiency_layers", None)
        super().__init__(inputs, outputs, name=name, **kwargs)
        captures = (layer for layer in functional_layers(self) if isinstance(layer, StateCapture))
        points = {layer.point.name: layer.point for layer in captures}
        if names is None or names:
            self.efficiency_layers = [points[name] for name in names or points]

    def get_config(self) -> dict[str, Any]:
        names = [point.name for point in getattr(self, "efficiency_layers", ())]
        return {**super().get_config(), "efficiency_layers": names}


# HDF5 files know it by its bare name.
keras.saving.get_custom_objects()["EfficiencyModel"] = EfficiencyModel


def _order_without_captures(inputs: Any, outputs: Any) -> list[str]:
    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return args[0] if isinstance(layer, StateCapture) else layer(*args, **kwargs)

    return [layer.name for layer in _made_again(keras.Model(inputs, outputs), call).layers]


def is_functional(model: Any) -> bool:
    """Whether layers and their connections are all of it: a class made from these may do more."""
    if type(model) is keras.Sequential:
        return model._functional is not None  # it is for a single tensor that goes in
    return type(model) in (functional.Functional, Functional, Sequential, EfficiencyModel)


def children(layer: Any) -> list[Any]:
    found = layer._flatten_layers(include_self=False, recursive=False)
    return [child for child in found if isinstance(child, keras.layers.Layer)]


def functional_layers(model: Any) -> Iterator[Any]:
    """The layers of a functional model, and of those that are nested in it."""
    for layer in children(model):
        yield layer
        if is_functional(layer):
            yield from functional_layers(layer)


def with_captures(model: Any, probes: Probes) -> Any:
    """A new model of the same layers, with capture layers where the probes want them."""
    return _in_order_of(model, _made_again(model, _inserter(probes)), EfficiencyModel)


def without_captures(model: Any, points: Sequence[Any]) -> Any:
    """A new model of the same layers but those that feed these capture points."""
    copies: dict[int, Any] = {}

    def is_ours(layer: Any) -> bool:
        return isinstance(layer, StateCapture) and layer.point in points

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if is_ours(layer):
            return args[0]
        if is_functional(layer) and any(map(is_ours, functional_layers(layer))):
            if id(layer) not in copies:
                copies[id(layer)] = _made_again(layer, call)
            layer = copies[id(layer)]
        return layer(*args, **kwargs)

    return _made_again(model, call)


def _inserter(probes: Probes) -> Callable[..., Any]:
    """What calls a layer in a copy: with capture layers before and after it."""
    made: dict[str, StateCapture] = {}
    copies: dict[int, Any] = {}

    def capture(probe: Probe, value: Any) -> Any:
        name = probe.point.name
        if name not in made:
            made[name] = StateCapture(name, point=probe.point)
        return made[name](value)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        places = probes.get(id(layer), {})
        if "before" in places:
            args, kwargs = with_input(lambda x: capture(places["before"], x), args, kwargs)
        nested = is_functional(layer) and any(
            id(inner) in probes for inner in functional_layers(layer)
        )
        if nested and id(layer) not in copies:
            kind = Sequential if type(layer).__name__ == "Sequential" else Functional
            copies[id(layer)] = _in_order_of(layer, _made_again(layer, call), kind)
        result = copies.get(id(layer), layer)(*args, **kwargs)
        return capture(places["after"], result) if "after" in places else result

    return call


def with_input(
    function: Callable[[Any], Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call's arguments, with ``function`` applied to the first one."""
    if args:
        return (function(args[0]), *args[1:]), kwargs
    first = next(iter(kwargs))
    return args, {**kwargs, first: function(kwargs[first])}


def _made_again(model: Any, call: Callable[..., Any]) -> Any:
    """A functional model of the same layers, each called by ``call``; not compiled."""
    if isinstance(model, keras.Sequential):  # its .input would be what it was called with last
        ends = model.inputs[0], model._functional.output
    else:
        ends = model.input, model.output
    plain = keras.Model(*ends, name=model.name)
    copy = keras.models.clone_model(plain, clone_function=lambda layer: layer, call_function=call)
    copy.output_names = list(plain.output_names)  # else those of capture layers
    return copy


def _in_order_of(model: Any, copy: Any, kind: Callable[..., Any]) -> Any:
    order = [layer.name for layer in model.layers]
    ordered = kind(copy.input, copy.output, name=copy.name, order=order)
    ordered.output_names = copy.output_names
    return ordered
