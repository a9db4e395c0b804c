"""Models of keras.applications: the axes that the library takes, and the true ones.

The truth is found as in truth.py, through what Keras itself offers: one neuron of a layer's weights
is changed, and the outputs of all layers are computed anew. It holds for the layers of the
outermost model, on the TensorFlow backend.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import tensorstate_gpu as ts
from tensorstate_gpu.errors import GuessedAxisWarning

from .captured import Taken
from .neurons import FLIPPED
from .truth import MORE_SHARES, SHARES, Truth, change_between, judged

# Name -> the height and width of the smallest input. Both differ, so that their axes do.
KERAS: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(("ConvNeXtTiny", "DenseNet121", "EfficientNetB0"), (32, 64)),
    **dict.fromkeys(("EfficientNetV2B0", "MobileNet", "MobileNetV2", "MobileNetV3Small"), (32, 64)),
    **dict.fromkeys(("ResNet50", "ResNet50V2", "VGG16"), (32, 64)),
    "InceptionResNetV2": (75, 96),
    "Xception": (71, 96),
}


def keras_axes(name: str) -> tuple[list[Truth], dict[str, Taken], dict[str, str]]:
    """Return the truth about each layer of a model, what was taken, and the layers' classes."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    keras.utils.set_random_seed(0)
    make: Any = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(*KERAS[name], 3), classes=10)
    return axes_of(model)


def axes_of(model: Any) -> tuple[list[Truth], dict[str, Taken], dict[str, str]]:
    """Like keras_axes(), of a functional model."""
    layers = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
    shape = (2, *model.inputs[0].shape[1:])
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    _spread_constants(layers)
    taken = _taken(model, images)
    return _truths(model, layers, images), taken, {x.name: type(x).__name__ for x in layers}


def _taken(model: Any, images: NDArray[Any]) -> dict[str, Taken]:
    ranks = {layer.name: len(_first(layer.output).shape) for layer in model.layers}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GuessedAxisWarning)
        with ts.capture(model, "*", keep="counts") as captured:
            model.predict(images, verbose=0)
    points = {p.name.removesuffix("_states"): p for p in captured.efficiency_layers}
    return {
        name: Taken(point.axis % ranks[name], point.axis_origin or "rule")
        for name, point in points.items()
        if name in ranks and point.axis is not None
    }


def _truths(model: Any, layers: Sequence[Any], images: NDArray[Any]) -> list[Truth]:
    import keras
    import tensorflow as tf

    watched = keras.Model(model.inputs, [_first(layer.output) for layer in layers])
    compiled = tf.function(lambda: watched([images], training=False))

    def outputs() -> list[torch.Tensor]:
        return [torch.from_numpy(value.numpy()) for value in tf.nest.flatten(compiled())]

    before = outputs()
    found: dict[int, Truth] = {}
    for place in reversed(range(len(layers))):
        if not _neuron_weights(layers[place]):
            continue
        changes: dict[int, list[torch.Tensor]] = {
            i: [] for i in range(place, len(layers)) if i not in found
        }
        for number, share in enumerate((*SHARES, *MORE_SHARES)):
            if number >= len(SHARES) and all(changes.values()):
                break
            after = _with_flipped(layers[place], share, outputs)
            for i in changes:
                change = change_between(before[i], after[i])
                if change is not None:
                    changes[i].append(change)
        for i, each in changes.items():
            if each:
                verdict, axes = judged(each, [])
                found[i] = Truth(layers[i].name, 0, tuple(before[i].shape), verdict, axes)
    return [
        found.get(i) or Truth(layer.name, 0, tuple(before[i].shape), "untouched")
        for i, layer in enumerate(layers)
    ]


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, (list, tuple)) else output


def _with_flipped(layer: Any, share: float, outputs: Any) -> list[torch.Tensor]:
    """Return the outputs with one neuron of a layer changed."""
    weights = _neuron_weights(layer)
    values = [np.array(weight) for weight, _ in weights]
    for (weight, axis), value in zip(weights, values, strict=True):
        flipped = value.copy()
        np.moveaxis(flipped, axis, 0)[int(share * value.shape[axis])] *= FLIPPED
        weight.assign(flipped)
    found: list[torch.Tensor] = outputs()
    for (weight, _), value in zip(weights, values, strict=True):
        weight.assign(value)
    return found


def _neuron_weights(layer: Any) -> list[tuple[Any, int]]:
    """Return those weights of a layer of which one axis holds its neurons, and that axis.

    The kernel of a depthwise convolution is (height, width, inputs, 1), others are (..., neurons).
    Of a separable one, only the second has the neurons. A layer of layers has those of the last.
    """
    inner = [each for each in getattr(layer, "layers", ()) if each.trainable_weights]
    if inner:
        return _neuron_weights(inner[-1])
    found = []
    for weight in layer.trainable_weights:
        longer = [axis for axis, size in enumerate(weight.shape) if size > 1]
        if type(layer).__name__ == "DepthwiseConv2D" and weight.name == "kernel":
            found.append((weight, 2))
        elif weight.name in ("kernel", "pointwise_kernel"):
            found.append((weight, len(weight.shape) - 1))
        elif len(longer) == 1 and weight.name != "depthwise_kernel":
            found.append((weight, longer[0]))
    return found


def _spread_constants(layers: Sequence[Any]) -> None:
    """Replace weights that are alike by random numbers: a scale of 0 hides what feeds it."""
    random = np.random.default_rng(1)
    for layer in layers:
        for weight in layer.trainable_weights:
            value = np.array(weight)
            if value.size > 1 and (value == value.flat[0]).all():
                noise = random.uniform(size=value.shape)
                weight.assign(0.5 + noise if value.flat[0] else 0.2 * (noise - 0.5))
