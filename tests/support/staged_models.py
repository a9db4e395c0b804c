"""Models with stages, and graphs of them that are replayed without hooks."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from functorch.compile import make_boxed_func
from torch import nn
from torch._dynamo.backends.common import aot_autograd

import tensorstate_gpu as ts
from tests.support.torch_models import expected_rows, images

KEEP = ("states", "counts")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 9, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(9 * 16, 4)
    )


def batch(seed: int, size: int = 5) -> torch.Tensor:
    return images(size, 1, 6, 6, seed=seed)


def expected(model: nn.Sequential, seeds: range) -> dict[str, ts.StateCounts]:
    """What the layers pass, by the NumPy oracle."""
    plain = copy.deepcopy(model)
    with torch.no_grad():
        conv = np.concatenate([expected_rows(plain[0](batch(seed)), 1) for seed in seeds])
        dense = np.concatenate([expected_rows(plain(batch(seed))) for seed in seeds])
    return {
        "0_post_states": ts.count_states(conv, neurons=9),
        "3_post_states": ts.count_states(dense, neurons=4),
    }


def found(run: ts.Run) -> dict[str, ts.StateCounts]:
    return {name: point.histogram() for name, point in run.items()}


def staged(model: nn.Module, rows: int = 10_000, **options: object) -> ts.Run:
    return ts.capture(model, ["Conv2d", "Linear"], stage_rows=rows, **options)


class Graph:
    """A compiled model of which only the graph runs, without hooks: as a CUDA graph is replayed."""

    def __init__(self, model: nn.Module) -> None:
        self._parts: list[Callable[..., Any]] = []
        backend = aot_autograd(fw_compiler=self._keep, keep_inference_input_mutations=True)
        self._compiled = torch.compile(model, backend=backend)

    def _keep(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        self._parts.append(graph)
        return make_boxed_func(self._record)

    def _record(self, *inputs: torch.Tensor) -> Any:
        self._inputs = inputs
        return self._parts[-1](*inputs)

    def record(self, x: torch.Tensor) -> None:
        """Run the whole compiled model, and keep its last graph with these inputs."""
        self._x = x
        self._compiled(x)

    def replay(self, x: torch.Tensor) -> None:
        self._x.copy_(x)
        self._parts[-1](*self._inputs)
