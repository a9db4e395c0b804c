"""A ResNet-50 with every convolution captured: how much longer it takes than the bare model.

At batch 256 the device is the limit; at batch 4 the host, which queues the kernels.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

import tensorstate_gpu as ts
from benchmarks.gpu.bounded import check_time
from benchmarks.gpu.clock import Case, Place
from benchmarks.gpu.results import write
from benchmarks.harness.networks import resnet50

ROUNDS = 12


def stage(words: dict[str, Any], place: Place | None = None) -> bool:
    place = place or Place()
    found: dict[str, Case] = {}
    for batch, name in ((256, "forward pass"), (256, "training step"), (4, "forward pass")):
        case = found.setdefault(f"ResNet-50, bfloat16, batch {batch}, {name}", {})
        for _ in measure(place, batch, name == "training step", case):
            if not place.tiny:
                write("training", words, found)
    return True


def only_packing(model: nn.Module) -> None:
    def pack(module: nn.Module, inputs: object, y: torch.Tensor) -> None:
        ts.compress_states(y, neuron_axis=1)

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(pack)


# How a model is prepared before it is timed.
WAYS: dict[str, Callable[[nn.Module], object]] = {
    "bare": lambda model: None,
    "packing only": only_packing,
    'keep="counts"': lambda model: ts.build_efficiency_model(model, "Conv2d", keep="counts"),
    'keep="states"': lambda model: ts.build_efficiency_model(model, "Conv2d", keep="states"),
}

# More ways, which only a forward pass is timed in.
FORWARD_WAYS: dict[str, Callable[[nn.Module], object]] = {
    'keep="counts", groups=64': lambda model: ts.build_efficiency_model(
        model, "Conv2d", keep="counts", groups=64
    ),
}


def measure(place: Place, batch: int, training: bool, found: Case) -> Iterator[str]:
    """Time the model in each way; yield after each that ``found`` has got."""
    size = place.size(224, 32)
    x = torch.randn(place.size(batch, 2), 3, size, size, device=place.device, dtype=torch.bfloat16)
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 1000, (len(x),), device=place.device)
    # One model at a time: four would not fit smaller devices. The bare one is timed beside each.
    for way, prepare in (WAYS if training else WAYS | FORWARD_WAYS).items():
        if way == "bare":
            continue
        check_time()
        steps = {}
        for name, make in (("bare", WAYS["bare"]), (way, prepare)):
            torch.manual_seed(0)
            model = resnet50().to(place.device, torch.bfloat16, memory_format=torch.channels_last)
            model.train(training)
            make(model)
            steps[name] = step(model, x, y, training)
        times = place.in_turn(steps, ROUNDS)
        found.setdefault("bare", times["bare"])
        # Relative to the bare model of the same rounds.
        scale = found["bare"][1] / times["bare"][1]
        found[way] = [seconds * scale for seconds in times[way]]
        del steps, model
        place.free()
        yield way


def step(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, training: bool
) -> Callable[[], object]:
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def forward() -> object:
        with torch.no_grad():
            return model(x)

    def train() -> object:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x).float(), y).backward()
        return optimizer.step()

    return train if training else forward
