"""Captures a model on the device of toy_device.cpp: ``python -m tests.support.on_toy_device DIR``.

Builds the device in the folder DIR. What is captured must be what is captured on the CPU.
"""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.cpp_extension import load

import tensorstate_gpu as ts

SOURCE = Path(__file__).parents[1] / "bridges" / "pytorch" / "toy_device.cpp"


class ToyModule:
    """The module torch.toy, as far as torch needs one."""

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """Nothing: it has no generator."""


def main() -> None:
    torch.utils.rename_privateuse1_backend("toy")
    load("toy_device", [str(SOURCE)], build_directory=sys.argv[1], extra_cflags=["-O0"])
    torch._register_device_module("toy", ToyModule())
    torch.utils.generate_methods_for_privateuse1_backend()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 11), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten())
    model.eval()
    x = torch.randn(4, 2, 7, 6)
    layers = ["Linear", "BatchNorm2d", "ReLU"]
    with ts.capture(model, layers) as expected:
        on_cpu = model(x)
    model.to("toy")
    for keep in ("states", "counts"):
        with ts.capture(model, layers, keep=keep) as run:
            on_toy = model(x.to("toy"))
        assert on_toy.device.type == "toy"
        assert torch.equal(on_toy.cpu(), on_cpu)
        for name, point in run.items():
            assert point.histogram() == expected[name].histogram(), name
        if keep == "states":
            assert all((run[name].raw_states == expected[name].raw_states).all() for name in run)
    refused = pytest.raises(ts.errors.NotCapturable, match="the model is on toy:0")
    with refused, ts.capture(model, layers, firing=lambda x: x > 1):
        raise AssertionError("the block was entered")
    print("captured", sum(point.state_count for point in run.values()))


if __name__ == "__main__":
    main()
