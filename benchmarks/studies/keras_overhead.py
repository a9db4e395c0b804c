"""What capture costs in Keras.

``python -m benchmarks.studies.keras_overhead`` runs every backend in turn.

The same model bare, with its convolutions captured, and (as capture was done before) with
run_eagerly=True; in predict and in fit, round by round and in turns, in one process for each
backend. On JAX also without captures, but with a call of the host for each convolution: the least
that anything costs there that takes values out of a compiled function. Ratios are medians of those
within a round, with the least and the most. The table goes into docs/keras.md.

``--cpu`` compares seconds of CPU, which other programs on the machine disturb less, ``--backends``
and ``--methods`` choose: the result is then only printed.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

BACKENDS = ("tensorflow", "jax", "torch")
ROUNDS = {"predict": 24, "fit": 8}
CALLS, EAGER = "calls alone", "bare, run_eagerly"
WAYS = ("bare", 'keep="states"', 'keep="counts"', CALLS, EAGER)
NETWORKS = ("LeNet-5, batch 200", "small ResNet, batch 32")


def convolution(calls_host: bool) -> Any:
    """The layer of Keras, or one that also passes a number to the host, on JAX."""
    from keras import layers

    if not calls_host:
        return layers.Conv2D
    import jax
    import numpy as np
    from jax.experimental import io_callback

    class CallingConv2D(layers.Conv2D):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            result = super().call(inputs)
            nothing, done = np.zeros((), np.uint8), jax.ShapeDtypeStruct((), np.uint8)
            one = jax.lax.stop_gradient(result[0, 0, 0, 0])
            io_callback(lambda _: nothing, done, one, ordered=True)
            return result

    return CallingConv2D


def lenet5(conv: Any) -> Any:
    import keras
    from keras import layers

    inputs = x = keras.Input((28, 28, 1))
    for neurons, size in ((20, 5), (50, 5), (100, 4)):
        x = conv(neurons, size, activation="elu")(x)
        x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(2)(x) if neurons < 100 else x
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))


def small_resnet(conv: Any) -> Any:
    import keras
    from keras import layers

    inputs = keras.Input((32, 32, 3))
    x = conv(32, 3, padding="same")(inputs)
    for width, stride in ((32, 1), (64, 2), (128, 2)):
        y = conv(width, 3, stride, padding="same", use_bias=False)(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(conv(width, 3, padding="same", use_bias=False)(y))
        short = x if stride == 1 else conv(width, 1, stride)(x)
        x = layers.ReLU()(layers.add([y, short]))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def measure(
    batches: int, rounds: dict[str, int], clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """Case -> way -> seconds of each round, on the backend of this process."""
    import keras
    import numpy as np

    import tensorstate_gpu as ts

    found: dict[str, Any] = {}
    for name, make, size, shape in (
        (NETWORKS[0], lenet5, 200, (28, 28, 1)),
        (NETWORKS[1], small_resnet, 32, (32, 32, 3)),
    ):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(batches * size, *shape)).astype("float32")
        y = rng.integers(0, 10, len(x))
        models = {}
        for way in WAYS:
            if way == CALLS and keras.backend.backend() != "jax":
                continue
            keras.utils.set_random_seed(0)
            model = make(convolution(way == CALLS))
            if way.startswith("keep"):
                model = ts.build_efficiency_model(model, "Conv2D", keep=way[6:-1])
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile("sgd", loss, run_eagerly=way == EAGER)
            models[way] = model
        for method in rounds:
            data = (x,) if method == "predict" else (x, y)
            times: dict[str, list[float]] = {way: [] for way in models}
            for number in range(rounds[method] + 1):  # the first traces and compiles
                first = number % len(models)  # who comes behind another meets its threads
                for way in [*models][first:] + [*models][:first]:
                    model = models[way]
                    if way.startswith("keep"):
                        ts.reset_efficiency_model(model)
                    begun = clock()
                    getattr(model, method)(*data, batch_size=size, verbose=0)
                    if number:
                        times[way].append(clock() - begun)
            found[f"{name}, {method}"] = times
    return found


def rows(results: dict[str, Any]) -> list[list[str]]:
    """A row for each case: what each way takes more than the bare model."""
    table = []
    for backend, cases in results.items():
        for name, times in cases.items():
            row = [backend, name, f"{1000 * statistics.median(times['bare']):.0f} ms"]
            for way in WAYS[1:]:
                if way not in times:
                    row.append("-")
                    continue
                pairs = zip(times[way], times["bare"], strict=True)
                ratios = [100 * (one / bare - 1) for one, bare in pairs]
                middle = statistics.median(ratios)
                row.append(f"{middle:+.0f} % ({min(ratios):+.0f}..{max(ratios):+.0f})")
            table.append(row)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--methods", nargs="+", choices=[*ROUNDS], default=[*ROUNDS])
    parser.add_argument("--cpu", action="store_true", help="compare seconds of CPU")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        clock = time.process_time if given.cpu else time.perf_counter
        rounds = {method: ROUNDS[method] for method in given.methods}
        print(json.dumps(measure(batches=10, rounds=rounds, clock=clock)))
        return
    from benchmarks.harness.tables import _between, _markdown
    from benchmarks.studies.keras_applications import PAGE

    results = {}
    for backend in given.backends:
        environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-m", "benchmarks.studies.keras_overhead", "--one"]
        command += ["--methods", *given.methods, *(["--cpu"] if given.cpu else [])]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        results[backend] = json.loads(done.stdout.splitlines()[-1])
        print(*map(" | ".join, rows({backend: results[backend]})), sep="\n", flush=True)
    if given.cpu or {*given.backends} != {*BACKENDS} or {*given.methods} != {*ROUNDS}:
        return
    headings = ["backend", "case", *WAYS]
    table = _markdown([headings, ["---"] * len(headings), *rows(results)])
    words = f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors"
    page = _between(PAGE.read_text(), "table: overhead", f"{words}\n\n{table}")
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
