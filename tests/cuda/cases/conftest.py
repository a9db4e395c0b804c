"""The machine of the cases: test_on_cpu.py runs them on a CPU, `make gpu` on a GPU."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tensorstate_gpu.cuda.launch import KERNELS
from tests.cuda.simt.gpu import Gpu
from tests.cuda.simt.machine import Machine


@pytest.fixture(scope="session")
def machine():
    if os.environ.get("TENSORSTATE_TEST_GPU"):
        yield Gpu()
        return
    with TemporaryDirectory() as folder:
        yield Machine(Path(folder), Path(os.environ.get("SIMT_KERNELS", KERNELS)))


@pytest.fixture(autouse=True)
def _installed(monkeypatch, machine):
    machine.install(monkeypatch)
