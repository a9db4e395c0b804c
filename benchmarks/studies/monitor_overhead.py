"""What a StateMonitor costs in a training, between the steps that it captures and in these.

``python -m benchmarks.studies.monitor_overhead`` trains each network for two steps at a time: bare,
with a monitor that captures none of them, and with one that captures the first. The hooks join and
leave the model in this time. Everything is measured in processor time of one thread, round by round
and in turns. Overheads are of one step: medians over rounds, with the least and the most, and then
the time inside the monitor's own functions alone, which varies less. The table goes into
docs/performance.md.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import tensorstate_gpu as ts
from benchmarks.harness.compare import rotated
from benchmarks.harness.networks import NETWORKS
from tensorstate_gpu.bridges.pytorch.forward_passes import ForwardPasses
from tensorstate_gpu.bridges.pytorch.hook_switch import PassWatch
from tensorstate_gpu.bridges.pytorch.pass_counter import PassCounter
from tensorstate_gpu.bridges.pytorch.sampled_hooks import SampledHook

ROUNDS = 15
WAYS = ("bare", "between", "captured")


class OwnTime:
    """Adds up the processor time inside functions of a monitor."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    def measure(self, owner: Any, name: str) -> None:
        """Measure a function of a class from now on."""
        function = getattr(owner, name)

        def measured(*args: object, **kwargs: object) -> object:
            begun = time.process_time()
            self._depth += 1
            try:
                return function(*args, **kwargs)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.process_time() - begun

        setattr(owner, name, measured)


OWN = OwnTime()


class Training:
    """The training of a network, two steps at a time."""

    def __init__(
        self, way: str, make: Callable[[], nn.Module], x: torch.Tensor, layers: type[nn.Module]
    ) -> None:
        torch.manual_seed(0)
        self._model, self._x = make(), x
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=1e-4)
        self._monitor = None
        if way != "bare":
            every = 2 if way == "captured" else sys.maxsize
            self._monitor = ts.StateMonitor(self._model, layers, every_n_steps=every)

    def step(self) -> None:
        self._optimizer.zero_grad()
        self._model(self._x).float().square().mean().backward()
        self._optimizer.step()
        if self._monitor is not None:
            self._monitor.step()

    def two_steps(self) -> float:
        """Return the seconds of processor time that they took."""
        begun = time.process_time()
        self.step()
        self.step()
        return time.process_time() - begun

    def scalars(self) -> float:
        """Return the seconds that the scalars of the counts so far take."""
        assert self._monitor is not None
        begun = time.process_time()
        self._monitor.scalars()
        return time.process_time() - begun


def measure(name: str, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round, by way, and of the scalars."""
    make, inputs, layers = NETWORKS[name]
    x = inputs()
    trainings = {way: Training(way, make, x, layers) for way in WAYS}
    kinds = (*WAYS, *(f"own, {way}" for way in WAYS), "scalars")
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(rounds + 2):  # the first two compile, and follow axes
        for way in rotated(WAYS, number):
            OWN.seconds = 0.0
            took = trainings[way].two_steps()
            if number > 1:
                seconds[way].append(took)
                seconds[f"own, {way}"].append(OWN.seconds)
        seconds["scalars"].append(trainings["captured"].scalars())
    return seconds


def row(name: str, seconds: dict[str, list[float]]) -> str:
    bare = statistics.median(seconds["bare"]) / 2
    cells = [name, f"{1000 * bare:.0f} ms"]
    for way, steps in (("between", 2), ("captured", 1)):
        pairs = zip(seconds[way], seconds["bare"], strict=True)
        shares = [100 * (one - base) / (base / 2) / steps for one, base in pairs]
        middle = statistics.median(shares)
        cells.append(f"{middle:+.1f} % ({min(shares):+.1f}..{max(shares):+.1f})")
        own = 100 * statistics.median(seconds[f"own, {way}"]) / bare / steps
        cells.append(f"{own:.2f} %")
    cells.append(f"{1000 * statistics.median(seconds['scalars']):.1f} ms")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    torch.set_num_threads(1)
    ts.set_num_threads(1)
    for owner, name in (
        *((SampledHook, "receive"), (PassWatch, "before"), (PassCounter, "begin_pass")),
        *((PassCounter, "end_pass"), (ForwardPasses, "begin"), (ts.StateMonitor, "step")),
    ):
        OWN.measure(owner, name)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    print("| training step | bare | between samples | own code | captured | own code | scalars() |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in NETWORKS:
        print(row(name, measure(name, rounds)), flush=True)


if __name__ == "__main__":
    main()
