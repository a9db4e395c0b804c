"""Bridges, one per framework: they turn the layers of its models into capture points."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorstate_gpu._capturing.bridge_protocol import Bridge

    from .keras3 import models as keras_models
    from .pytorch import models as pytorch_models

    # The type checker compares these modules with the protocol.
    _keras: Bridge = keras_models
    _pytorch: Bridge = pytorch_models
