"""Small PyTorch helpers that several test files share."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.checkpoint import checkpoint

from tensorstate_gpu import StateCaptureHook, testing

# By its text: 2.13 warns with a DeprecationWarning, 2.14 with a FutureWarning. torch itself calls
# torch.jit where it imports its compiler, and in its first jvp.
ignores_torchscript = pytest.mark.filterwarnings("ignore:.*torch.jit")


def expected_rows(tensor: torch.Tensor, axis: int = -1, threshold: Any = 0.0) -> NDArray[np.uint8]:
    """The packed states of an activation, by the NumPy oracle."""
    return testing.compress(tensor.detach().contiguous().numpy(), axis, threshold)


def hooks_of(model: nn.Module) -> list[Any]:
    """Every forward hook and forward pre-hook of a model and its modules.

    A model with capture points has more, which watch its passes.
    """
    found: list[Any] = []
    for module in model.modules():
        found += module._forward_pre_hooks.values()
        found += module._forward_hooks.values()
        # What torch notes beside the hooks must go with them.
        for notes in (
            module._forward_hooks_with_kwargs,
            module._forward_hooks_always_called,
            module._forward_pre_hooks_with_kwargs,
        ):
            assert set(notes) <= {*module._forward_hooks, *module._forward_pre_hooks}
    return found


def capture_hooks_of(model: nn.Module) -> list[StateCaptureHook]:
    """Those of them that capture."""
    owners = [getattr(hook, "__self__", hook) for hook in hooks_of(model)]
    return [owner for owner in owners if isinstance(owner, StateCaptureHook)]


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normally distributed numbers from a generator of their own."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def perceptron() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 4))


class Checkpointed(nn.Module):
    """A module whose forward pass is repeated while gradients are computed."""

    def __init__(self, inner: nn.Module, reentrant: bool = False) -> None:
        super().__init__()
        self.inner, self.reentrant = inner, reentrant

    def forward(self, x: torch.Tensor) -> Any:
        return checkpoint(self.inner, x, use_reentrant=self.reentrant)


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 5), nn.ReLU())
        self.decoder = nn.Linear(5, 4)

    def forward(self, x):
        return self.decoder(self.encoder(x))


class Breaking(nn.Module):
    """Passes its input on, or raises what it is told to."""

    error: BaseException | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.error is not None:
            raise self.error
        return x
