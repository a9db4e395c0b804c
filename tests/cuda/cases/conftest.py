"""On what the cases run: on the simulated CUDA, or with `make gpu` on a GPU."""

import os
import zlib
from pathlib import Path

import pytest

from tensorstate_gpu.cuda import launch, narrow_table, wide_table
from tests.cuda import simulated
from tests.cuda.simt.gpu import Gpu
from tests.cuda.simulated.faults import FAULTS

# What other files of cases assert with; their failures show values, too.
for shared in ("streams", "tables"):
    pytest.register_assert_rewrite(f"tests.cuda.cases.{shared}")

ON_GPU = bool(os.environ.get("TENSORSTATE_TEST_GPU"))


@pytest.fixture(scope="session")
def machine():
    return Gpu()


@pytest.fixture
def small_blocks(monkeypatch):
    """Of 128 threads: each reads several rows, and finds some in its block's cache."""
    for module in (narrow_table, wide_table):
        monkeypatch.setattr(module, "_THREADS", 128)


@pytest.fixture
def on_cuda():
    """Copies a torch tensor to the GPU."""
    if ON_GPU:
        return lambda tensor: tensor.cuda()
    from tests.cuda.simulated import torch_cuda

    return torch_cuda.on_cuda


class _CudaGraph:
    """A CUDA graph of torch; simulated.torch_cuda.Graph stands for it."""

    def __init__(self):
        import torch

        self._graph = torch.cuda.CUDAGraph()
        self.recorded = lambda: torch.cuda.graph(self._graph)
        self.replay = self._graph.replay


@pytest.fixture
def new_graph():
    """Creates a CUDA graph."""
    if ON_GPU:
        return _CudaGraph
    from tests.cuda.simulated import torch_cuda

    return torch_cuda.Graph


@pytest.fixture(scope="session", autouse=True)
def _installed():
    if "SIMT_KERNELS" in os.environ:  # with faults
        launch.KERNELS = Path(os.environ["SIMT_KERNELS"])
    if not ON_GPU:
        simulated.install()
    if "HOST_FAULT" in os.environ:
        FAULTS[os.environ["HOST_FAULT"]]()


@pytest.fixture(autouse=True)
def _new(request, _installed):
    """The order of work is by chance, but always the same in the same test."""
    if not ON_GPU:
        simulated.reset(zlib.crc32(request.node.name.encode()))
