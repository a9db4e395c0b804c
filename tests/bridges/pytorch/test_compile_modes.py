"""Ways to use torch.compile, each once with hooks and once with stages: all batches, each once."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo import compiled_autograd
from torch.utils import checkpoint

import tensorstate_gpu as ts
from tests.support.samples import thinned
from tests.support.torch_models import expected_rows, ignores_torchscript, images

pytestmark = pytest.mark.usefixtures("nothing_compiled_before")

SIZES = (8, 8, 5, 8)
Call = Callable[[torch.Tensor], torch.Tensor]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.act = nn.Linear(6, 6), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.act(self.linear(x))


class Network(nn.Module):
    """Three equal blocks, each perhaps in a selective checkpoint."""

    def __init__(self, selective: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks, self.selective = nn.ModuleList(Block() for _ in range(3)), selective

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = _checkpointed(block, x) if self.selective else block(x)
        return x


def _checkpointed(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Products are kept, and all else is computed again in the backward pass."""
    kept = partial(
        checkpoint.create_selective_checkpoint_contexts,
        [torch.ops.aten.mm.default, torch.ops.aten.addmm.default],
    )
    result: torch.Tensor = checkpoint.checkpoint(block, x, use_reentrant=False, context_fn=kept)
    return result


def whole(model: nn.Module, **options: object) -> Call:
    return torch.compile(model, **{"backend": "aot_eager", "fullgraph": True, **options})


def by_block(model: nn.Module) -> Call:
    for block in model.blocks:
        block.compile(backend="aot_eager", fullgraph=True)
    return model


def training_step(model: nn.Module) -> Call:
    """A compiled function of a whole step: forward, backward and optimizer."""
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def step(x: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return torch.compile(step, backend="aot_eager")


def inductor(model: nn.Module, **options: bool) -> Call:
    return torch.compile(model.eval(), fullgraph=True, options=options)


# How a model is called, and whether its backward pass runs as well.
WAYS: dict[str, tuple[Callable[[nn.Module], Call], bool]] = {
    "fullgraph": (whole, True),
    "dynamic shapes": (partial(whole, dynamic=True), True),
    "regional": (by_block, True),
    "whole step": (training_step, False),
    "compiled autograd": (whole, True),
    "selective checkpoints": (whole, True),
    "freezing": (partial(inductor, freezing=True), False),
    "cpp_wrapper": (partial(inductor, cpp_wrapper=True), False),
    "inductor, training": (torch.compile, True),
}
ALL = [(way, stage_rows) for way in WAYS for stage_rows in (None, 1000)]
QUICK = [("fullgraph", None), ("dynamic shapes", None), ("regional", 1000)]


@ignores_torchscript
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize(("way", "stage_rows"), thinned(ALL, QUICK))
def test_each_batch_is_counted_once(way, stage_rows):
    make, has_backward = WAYS[way]
    model = Network(selective=way == "selective checkpoints")
    seen: list[list[np.ndarray]] = [[] for _ in model.blocks]
    call = make(model)
    gradients = nullcontext() if has_backward or way == "whole step" else torch.no_grad()
    with ts.capture(model, "Linear", keep="counts", stage_rows=stage_rows) as run, gradients:
        for seed, size in enumerate(SIZES):
            x = images(size, 6, seed=seed)
            _note(model, x, seen)
            output = call(x.requires_grad_(has_backward))
            if has_backward:
                with _compiled_backward() if way == "compiled autograd" else nullcontext():
                    output.sum().backward()
    for point, rows in zip(run.values(), seen, strict=True):
        assert point.histogram() == ts.count_states(np.concatenate(rows), neurons=6)
    if (way, stage_rows) != ("selective checkpoints", 1000):
        # The axes inside a checkpoint are not known to the graph, nor so the inputs to a stage.
        assert run.instance_count == sum(SIZES)


def _compiled_backward() -> AbstractContextManager[None]:
    return compiled_autograd._enable(torch.compile(backend="aot_eager"))


def _note(model: Network, x: torch.Tensor, seen: list[list[np.ndarray]]) -> None:
    """Note what each block's dense layer will pass, with the weights of now."""
    with torch.no_grad():
        for block, rows in zip(model.blocks, seen, strict=True):
            linear = nn.functional.linear(x, block.linear.weight, block.linear.bias)
            rows.append(expected_rows(linear))
            x = x + linear.relu()


# ---- caches of compiled graphs -------------------------------------------------------------------


@pytest.mark.parametrize("stage_rows", thinned([None, 1000], [1000]))
def test_graphs_of_equal_models_are_the_same_text(stage_rows):
    """Else another process, where other layers were captured before, could not use its cache."""
    texts, constants = [], set()

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Call:
        texts[-1].append(graph.print_readable(print_output=False))
        constants.update(c for node in graph.graph.nodes for c in node.args if isinstance(c, str))
        return graph.forward

    for _ in range(2):
        texts.append([])
        torch.compiler.reset()
        model = Network()
        with torch.no_grad(), ts.capture(model, "Linear", stage_rows=stage_rows):
            call = torch.compile(model, backend=backend)
            for seed in range(2):
                call(images(8, 6, seed=seed))
    assert texts[0] == texts[1]
    assert any("tensorstate_gpu" in text for text in texts[0])
    assert not any('"' in text for text in constants), "cpp_wrapper does not escape them"


PROGRAM = """
import sys, warnings
import torch
import tensorstate_gpu as ts
from torch._dynamo.utils import counters
for _ in range(int(sys.argv[1])):
    ts.build_efficiency_model(torch.nn.Linear(2, 2), "Linear")
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
with ts.capture(model, "Linear", stage_rows=eval(sys.argv[2])) as run, torch.no_grad():
    call = torch.compile(model)
    call(torch.randn(5, 8))
    call(torch.randn(5, 8))
found = counters["inductor"]
print(found["fxgraph_cache_miss"], found["fxgraph_cache_hit"], run.instance_count)
"""


@pytest.mark.long
@pytest.mark.parametrize("stage_rows", [None, 1000])
def test_another_process_finds_the_compiled_graphs(stage_rows, tmp_path):
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    said = []
    for captured_before in ("0", "3"):
        command = [sys.executable, "-c", PROGRAM, captured_before, str(stage_rows)]
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            cwd=Path(ts.__file__).parents[1],
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.split())
    graphs = "1" if stage_rows is None else "2"  # the first creates the stages
    assert said == [[graphs, "0", "10"], ["0", graphs, "10"]]
