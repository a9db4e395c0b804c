"""The models of the study: how to build each, with random weights, and an input for it."""

import dataclasses
import warnings
from collections.abc import Callable
from fnmatch import fnmatch
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from .inputs import pixels
from .keras_models import KERAS
from .neurons import spread_constants
from .passes import Inputs
from .timm_models import TIMM
from .torchvision_models import TORCHVISION, import_torchvision
from .transformers_models import TRANSFORMERS


@dataclasses.dataclass(frozen=True)
class Published:
    """A published model. ``make``: returns the module and its input."""

    library: str
    name: str
    make: Callable[[], tuple[nn.Module, Inputs]]

    @property
    def key(self) -> str:
        return f"{self.library}/{self.name}"

    def build(self) -> tuple[nn.Module, Inputs]:
        """Return the model in eval mode and its input; random, but the same each time."""
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a library's own, about how it is used here
            model, inputs = self.make()
        spread_constants(model)
        return model.eval(), inputs


def published(library: str = "*", *names: str) -> list[Published]:
    """Return the models whose library matches a glob, and whose name one of some; or any name."""
    found = [
        *(Published("timm", name, _of_timm(name)) for name in TIMM),
        *(Published("transformers", name, _of_transformers(name)) for name in TRANSFORMERS),
        *(Published("torchvision", name, _of_torchvision(name)) for name in TORCHVISION),
        *(Published("keras", name, _of_keras) for name in KERAS),
    ]
    return [
        each
        for each in found
        if fnmatch(each.library, library)
        and any(fnmatch(each.name, name) for name in names or ("*",))
    ]


def _of_timm(name: str) -> Callable[[], tuple[nn.Module, Inputs]]:
    def make() -> tuple[nn.Module, Inputs]:
        import_torchvision()
        import timm

        sides, smaller = TIMM[name]
        return timm.create_model(name, **smaller), pixels(*sides)

    return make


def _of_keras() -> tuple[nn.Module, Inputs]:
    raise TypeError("a model of Keras is no module of PyTorch: see keras_axes()")


def _of_torchvision(name: str) -> Callable[[], tuple[nn.Module, Inputs]]:
    def make() -> tuple[nn.Module, Inputs]:
        sides, arguments = TORCHVISION[name]
        models: Any = import_torchvision().models
        return models.get_model(name, weights=None, **arguments), pixels(*sides)

    return make


def _of_transformers(name: str) -> Callable[[], tuple[nn.Module, Inputs]]:
    def make() -> tuple[nn.Module, Inputs]:
        if find_spec("torchvision") is not None:  # which transformers then imports
            import_torchvision()
        import transformers

        tiny = TRANSFORMERS[name]
        config = transformers.AutoConfig.for_model(name, **tiny.config())
        config._attn_implementation = "eager"
        model = getattr(transformers, tiny.auto_class).from_config(config)
        return model.float(), tiny.inputs()

    return make
