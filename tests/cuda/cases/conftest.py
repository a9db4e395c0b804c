"""On what the cases run: by g++ and a CPU, or with `make gpu` by a GPU."""

import os
from pathlib import Path

import pytest

from tensorstate_gpu.cuda.launch import KERNELS
from tests.cuda.simt.gpu import Gpu
from tests.cuda.simt.machine import Machine


@pytest.fixture(scope="session")
def machine():
    if os.environ.get("TENSORSTATE_TEST_GPU"):
        return Gpu()
    return Machine(Path(os.environ.get("SIMT_KERNELS", KERNELS)))


@pytest.fixture(autouse=True)
def _installed(monkeypatch, machine):
    machine.install(monkeypatch)
