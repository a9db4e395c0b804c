"""What a capture costs in a compiled model where little else happens: three small layers, inductor.

``python -m benchmarks.studies.compiled_overhead`` prints a table for docs/performance.md. All ways
are timed in turn, in one process and one thread, by the processor time of that thread. A ratio is
that to the bare model in the same round; the median is shown, with the range of the middle half.

"Empty operator" is a plain hook that calls an operator that does nothing, with the arguments of the
one that captures: what torch takes for any operator of a custom library, the least possible.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

import tensorstate_gpu as ts
from benchmarks.harness.compare import rotated

LAYERS, WIDTH, BATCH = 3, 64, 32
ROUNDS, CALLS = 60, 50


_library = torch.library.Library("compiled_overhead", "DEF")
_library.define("empty(Tensor x, Tensor(a!) anchor, Tensor clock, str traced) -> ()")


def _empty(x: torch.Tensor, anchor: torch.Tensor, clock: torch.Tensor, traced: str) -> None:
    pass


_library.impl("empty", _empty, "CompositeExplicitAutograd")
torch.library.register_fake("compiled_overhead::empty", _empty, lib=_library)


class HookedLinear(nn.Linear):
    """A class of its own: torch.compile would use the graphs of plain layers, without hooks."""


class EmptyHook:
    def __init__(self, clock: torch.Tensor) -> None:
        self.anchor, self.clock = torch.zeros(2, dtype=torch.int64), clock

    def __call__(self, module: nn.Module, args: object, output: torch.Tensor) -> None:
        torch.ops.compiled_overhead.empty(output.detach(), self.anchor, self.clock, "x" * 100)


def network(layer: type[nn.Linear] = nn.Linear) -> nn.Sequential:
    torch.manual_seed(0)
    parts = [part for _ in range(LAYERS) for part in (layer(WIDTH, WIDTH), nn.ReLU())]
    return nn.Sequential(*parts).eval()


def with_empty_operators() -> nn.Sequential:
    model, clock = network(HookedLinear), torch.zeros(4, dtype=torch.int64)
    for layer in model[::2]:
        layer.register_forward_hook(EmptyHook(clock))
    return model


@contextmanager
def ways() -> Iterator[dict[str, Callable[[torch.Tensor], object]]]:
    """Compiled models by what is attached to them."""
    with ExitStack() as stack:
        found: dict[str, Callable[[torch.Tensor], object]] = {"bare": torch.compile(network())}
        detached = network()
        with ts.capture(detached, "Linear"):
            torch.compile(detached)(torch.randn(BATCH, WIDTH))
        found["detached again"] = torch.compile(detached)
        found["empty operator"] = torch.compile(with_empty_operators())
        for name, options in (
            ("attached, not active", {}),
            ('keep="counts"', {}),
            ('keep="counts", stage_rows=', {"stage_rows": 1 << 20}),
        ):
            model = network()
            run = stack.enter_context(ts.capture(model, "Linear", keep="counts", **options))
            found[name] = torch.compile(model)
            found[name](torch.randn(BATCH, WIDTH))
            if name == "attached, not active":
                for point in run.values():
                    point.active = False
        yield found


def measure(rounds: int, calls: int) -> dict[str, list[float]]:
    """Seconds of a call, in each round, by way."""
    x = torch.randn(BATCH, WIDTH)
    with torch.no_grad(), ways() as models:
        times: dict[str, list[float]] = {name: [] for name in models}
        for number in range(rounds + 1):  # the first compiles
            for name in rotated(models, number):
                begun = time.thread_time()
                for _ in range(calls):
                    models[name](x)
                if number:
                    times[name].append((time.thread_time() - begun) / calls)
    return times


def rows(times: dict[str, list[float]]) -> Iterator[str]:
    bare = times["bare"]
    for name, own in times.items():
        ratios = [one / other for one, other in zip(own, bare, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        more = 1e6 * statistics.median(a - b for a, b in zip(own, bare, strict=True)) / LAYERS
        added = "" if name == "bare" else f"{more:+.1f} us"
        whole = 1e6 * statistics.median(own)
        yield f"| {name} | {whole:.0f} us | {added} | {middle:.2f} ({low:.2f} to {high:.2f}) |"


def main() -> None:
    torch.set_num_threads(1)
    print("| | a pass | for each layer | ratio to bare |\n|---|---|---|---|")
    print(*rows(measure(ROUNDS, CALLS)), sep="\n")


if __name__ == "__main__":
    main()
