"""Imports and compiles what every model needs, once for all of their processes."""

import contextlib

import torch

import tensorstate_gpu as ts

from . import findings  # noqa: F401
from .torchvision_models import import_torchvision

torch.set_num_threads(1)
with contextlib.suppress(ImportError):
    import_torchvision()
    import timm  # noqa: F401
    import transformers  # noqa: F401

layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.Flatten(), torch.nn.Linear(32, 4))
with ts.capture(layers, "*"), torch.no_grad():
    layers(torch.ones(2, 3, 2, 2))
