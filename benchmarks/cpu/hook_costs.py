"""What a captured layer costs beside packing: functions of Python, page faults, processor time.

``python -m benchmarks.cpu.hook_costs`` captures the networks of benchmarks/harness/networks.py on
one thread. The functions of Python that a hook calls are the same on every run, and limits on them
stand in tests/bridges/pytorch/test_calls_per_batch.py. Page faults are those of a pass, on average:
kept rows need new memory. Times are processor time of one thread, the least of rounds in which the
variants alternate, and as a share of the bare pass.
"""

import copy
import resource
import time
from collections.abc import Callable
from typing import Any

import torch

import tensorstate_gpu as ts
from benchmarks.cpu.small_calls import python_calls
from benchmarks.harness.memory import keep_freed_memory
from benchmarks.harness.networks import NETWORKS

ROUNDS = 20
Forward = Callable[[], Any]


def variants(name: str) -> tuple[dict[str, Forward], int]:
    """A pass of a network bare, and with each way to keep states; and how many layers there are."""
    make, draw, kind = NETWORKS[name]
    torch.manual_seed(0)
    bare, inputs = make().eval(), draw()
    models = {"bare": bare}
    for keep in ("states", "counts"):
        models[keep] = copy.deepcopy(bare)
        ts.build_efficiency_model(models[keep], kind, keep=keep)
    layers = sum(isinstance(module, kind) for module in bare.modules())
    return {what: lambda model=model: model(inputs) for what, model in models.items()}, layers


class Costs:
    """Of one variant, over some passes."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        for _ in range(3):  # the first passes are followed, and allocate
            forward()
        self.calls = python_calls(forward)
        self.seconds, self._faults, self._passes = float("inf"), 0, 0

    def run(self) -> None:
        faults, start = _page_faults(), time.thread_time()
        self._forward()
        self.seconds = min(self.seconds, time.thread_time() - start)
        self._faults += _page_faults() - faults
        self._passes += 1

    @property
    def faults(self) -> float:
        return self._faults / self._passes


def _page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measured(name: str, rounds: int) -> list[str]:
    """The rows of the table for a network."""
    forwards, layers = variants(name)
    costs = {what: Costs(forward) for what, forward in forwards.items()}
    for _ in range(rounds):
        for one in costs.values():
            one.run()
    bare = costs.pop("bare")
    return [
        f"| {name} | {what} | {(one.calls - bare.calls) / layers:.0f} | "
        f"{one.faults - bare.faults:.0f} | {1e6 * (one.seconds - bare.seconds) / layers:.0f} us | "
        f"{100 * (one.seconds / bare.seconds - 1):+.1f} % |"
        for what, one in costs.items()
    ]


def main(rounds: int = ROUNDS) -> None:
    torch.set_num_threads(1)
    ts.set_num_threads(1)
    keep_freed_memory()
    print("| forward pass | keep | Python calls, a hook | page faults, a pass | a hook | a pass |")
    print("|---|---|---|---|---|---|")
    with torch.no_grad():
        for name in NETWORKS:
            print("\n".join(measured(name, rounds)), flush=True)


if __name__ == "__main__":
    main()
