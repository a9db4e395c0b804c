"""Every architecture family of keras.applications, captured.

``python -m benchmarks.studies.keras_applications`` writes the table of docs/keras.md.

At its smallest size and a small input, with random weights, on the TensorFlow backend in graph
mode. All convolution and dense layers are captured. The captured model must predict what the
bare one does, bit for bit, and each capture point must count positions x batch. The table goes into
docs/keras.md.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import tensorstate_gpu as ts
from benchmarks.harness.tables import _between, _markdown

BATCH = 2
PAGE = Path(__file__).resolve().parents[2] / "docs/keras.md"
# Family -> its smallest model, and the side of the smallest input that it takes.
FAMILIES = {
    "ConvNeXt": ("ConvNeXtTiny", 32),
    "DenseNet": ("DenseNet121", 32),
    "EfficientNet": ("EfficientNetB0", 32),
    "EfficientNetV2": ("EfficientNetV2B0", 32),
    "Inception-ResNet": ("InceptionResNetV2", 75),
    "Inception": ("InceptionV3", 75),
    "MobileNet": ("MobileNet", 32),
    "MobileNetV2": ("MobileNetV2", 32),
    "MobileNetV3": ("MobileNetV3Small", 32),
    "NASNet": ("NASNetMobile", 32),
    "ResNet": ("ResNet50", 32),
    "ResNetV2": ("ResNet50V2", 32),
    "VGG": ("VGG16", 32),
    "Xception": ("Xception", 71),
}
LAYERS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense")


def sweep(names: list[str]) -> Iterator[list[str]]:
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    for family in names or FAMILIES:
        model_name, side = FAMILIES[family]
        begun = time.perf_counter()
        points, states = check(getattr(keras.applications, model_name), side)
        seconds = time.perf_counter() - begun
        row = [model_name, str(side), str(points), f"{states:,}", f"{seconds:.0f} s"]
        print(" | ".join(row), flush=True)
        yield row


def check(make: Any, side: int) -> tuple[int, int]:
    """Capture points, and states of all of them; AssertionError where anything differs."""
    import keras

    keras.utils.set_random_seed(0)
    model = make(weights=None, input_shape=(side, side, 3), classes=10)
    x = np.random.default_rng(0).uniform(0, 255, (BATCH, side, side, 3)).astype("float32")
    captured = ts.build_efficiency_model(model, list(LAYERS))
    bare, found = (each.predict(x, verbose=0) for each in (model, captured))
    assert np.array_equal(bare, found), "the captured model predicts something else"
    total = 0
    for point in captured.efficiency_layers:
        output = layer_of(model, point.name.removesuffix("_states")).output
        expected = BATCH * int(np.prod(output.shape[1:-1]))
        assert point.state_count == expected, (point.name, point.state_count, expected)
        assert point.neurons == output.shape[-1], point.name
        total += expected
    return len(captured.efficiency_layers), total


def layer_of(model: Any, path: str) -> Any:
    for name in path.split("/"):
        model = model.get_layer(name)
    return model


if __name__ == "__main__":
    headings = ["model", "input", "layers captured", "states", "all in all"]
    rows = list(sweep(sys.argv[1:]))
    if not sys.argv[1:]:
        table = _markdown([headings, ["---"] * len(headings), *rows])
        PAGE.write_text(_between(PAGE.read_text(), "table: sweep", table))
