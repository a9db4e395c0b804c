"""What capture costs in Keras.

``python -m benchmarks.studies.keras_overhead`` runs every backend in turn.

The same model bare, with its convolutions captured, and (as capture was done before) with
run_eagerly=True; in predict and in fit, round by round and in turns, in one process for each
backend. Ratios are medians of those within a round, with the least and the most. The table goes
into docs/keras.md.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.harness.compare import rotated

BACKENDS = ("tensorflow", "jax", "torch")
ROUNDS = {"predict": 24, "fit": 8}
WAYS = ("bare", 'keep="states"', 'keep="counts"', "run_eagerly")
NETWORKS = ("LeNet-5, batch 200", "small ResNet, batch 32")


def lenet5() -> Any:
    import keras
    from keras import layers

    inputs = x = keras.Input((28, 28, 1))
    for neurons, size in ((20, 5), (50, 5), (100, 4)):
        x = layers.Conv2D(neurons, size, activation="elu")(x)
        x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(2)(x) if neurons < 100 else x
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))


def small_resnet() -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(32, 3, padding="same")(inputs)
    for width, stride in ((32, 1), (64, 2), (128, 2)):
        y = layers.Conv2D(width, 3, stride, padding="same", use_bias=False)(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(width, 3, padding="same", use_bias=False)(y))
        short = x if stride == 1 else layers.Conv2D(width, 1, stride)(x)
        x = layers.ReLU()(layers.add([y, short]))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def measure(batches: int, rounds: dict[str, int]) -> dict[str, Any]:
    """Case -> way -> seconds of each round, on the backend of this process."""
    import numpy as np

    found: dict[str, Any] = {}
    for name, make, size, shape in (
        (NETWORKS[0], lenet5, 200, (28, 28, 1)),
        (NETWORKS[1], small_resnet, 32, (32, 32, 3)),
    ):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(batches * size, *shape)).astype("float32")
        y = rng.integers(0, 10, len(x))
        models = {way: compiled(make, way) for way in WAYS}
        for method, data in (("predict", (x,)), ("fit", (x, y))):
            times: dict[str, list[float]] = {way: [] for way in WAYS}
            for number in range(rounds[method] + 1):  # the first traces and compiles
                for way in rotated(WAYS, number):
                    taken = seconds(models[way], method, data, size)
                    if number:
                        times[way].append(taken)
            found[f"{name}, {method}"] = times
    return found


def compiled(make: Callable[[], Any], way: str) -> Any:
    """A new model, ready to be trained."""
    import keras

    import tensorstate_gpu as ts

    keras.utils.set_random_seed(0)
    model = make()
    if way.startswith("keep"):
        model = ts.build_efficiency_model(model, "Conv2D", keep=way[6:-1])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, run_eagerly=way == "run_eagerly")
    return model


def seconds(model: Any, method: str, data: tuple[Any, ...], size: int) -> float:
    """How long a method takes, in batches of this size."""
    import tensorstate_gpu as ts

    if hasattr(model, "efficiency_layers"):
        ts.reset_efficiency_model(model)
    begun = time.perf_counter()
    getattr(model, method)(*data, batch_size=size, verbose=0)
    return time.perf_counter() - begun


def rows(results: dict[str, Any]) -> list[list[str]]:
    """A row for each case: what each way takes more than the bare model."""
    table = []
    for backend, cases in results.items():
        for name, times in cases.items():
            row = [backend, name, f"{1000 * statistics.median(times['bare']):.0f} ms"]
            for way in [way for way in times if way != "bare"]:
                pairs = zip(times[way], times["bare"], strict=True)
                ratios = [100 * (one / bare - 1) for one, bare in pairs]
                middle = statistics.median(ratios)
                row.append(f"{middle:+.0f} % ({min(ratios):+.0f}..{max(ratios):+.0f})")
            table.append(row)
    return table


def main() -> None:
    if "--one" in sys.argv:
        print(json.dumps(measure(batches=10, rounds=ROUNDS)))
        return
    from benchmarks.harness.tables import _between, _markdown
    from benchmarks.studies.keras_applications import PAGE

    results = {}
    for backend in BACKENDS:
        environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-m", "benchmarks.studies.keras_overhead", "--one"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        results[backend] = json.loads(done.stdout.splitlines()[-1])
        print(*map(" | ".join, rows({backend: results[backend]})), sep="\n", flush=True)
    headings = ["backend", "case", "bare", 'keep="states"', 'keep="counts"', "bare, run_eagerly"]
    table = _markdown([headings, ["---"] * len(headings), *rows(results)])
    words = f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors"
    page = _between(PAGE.read_text(), "table: overhead", f"{words}\n\n{table}")
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
