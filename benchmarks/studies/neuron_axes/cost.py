"""What the pass that is followed costs: ``python -m benchmarks.studies.neuron_axes --cost``.

The models of the study are tiny, so that most of their time is that of Python, which following adds
to. Larger models lose less.
"""

import time
import warnings
from statistics import median

import torch
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu.errors import GuessedAxisWarning

from .models import published
from .passes import Inputs, run

MODELS = (
    ("timm", "convnext_atto"),
    ("timm", "vit_tiny_patch16_224"),
    ("torchvision", "resnet50"),
    ("transformers", "bert"),
    ("transformers", "swin"),
)
ROUNDS = 15


def cost_rows(rounds: int = ROUNDS) -> list[list[str]]:
    """A row for each model: milliseconds of passes, and how much longer the followed one takes."""
    torch.set_num_threads(1)  # several take longer for tiny tensors
    rows = [["model", "pass", "captured", "followed", "times as long"]]
    for library, name in MODELS:
        (each,) = published(library, name)
        bare, captured, followed = measured(*each.build(), rounds)
        times = [f"{1000 * seconds:.1f} ms" for seconds in (bare, captured, followed)]
        rows.append([each.key, *times, f"{followed / captured:.1f}"])
    return rows


def measured(model: nn.Module, inputs: Inputs, rounds: int) -> tuple[float, float, float]:
    """Return the median seconds of a pass: without capture, captured, and followed as well."""
    bare, captured, followed = [], [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GuessedAxisWarning)
        _seconds(model, inputs)
        for number in range(rounds + 1):
            with ts.capture(model, _is_leaf, keep="counts"):
                first, second = _seconds(model, inputs), _seconds(model, inputs)
            if number:  # the first captures compile kernels
                bare.append(_seconds(model, inputs))
                followed.append(first)
                captured.append(second)
    return median(bare), median(captured), median(followed)


def _is_leaf(name: str, layer: nn.Module) -> bool:
    return next(layer.children(), None) is None


def _seconds(model: nn.Module, inputs: Inputs) -> float:
    begun = time.perf_counter()
    run(model, inputs)
    return time.perf_counter() - begun
