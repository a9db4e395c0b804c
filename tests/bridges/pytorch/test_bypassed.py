"""Layers that ran without their hooks: exact all the same, or no measure is returned."""

import copy
import itertools
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.samples import thinned
from tests.support.torch_models import ignores_torchscript, images

pytestmark = pytest.mark.usefixtures("nothing_compiled_before")

SIZES = (8, 8, 8, 5, 9)  # graphs from before the capture would fit the first three

Call = Callable[[torch.Tensor], object]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.act = nn.Linear(4, 4), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.linear(x))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(Block() for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def run_epoch(call: Call) -> None:
    with torch.no_grad():
        for seed, rows in enumerate(SIZES):
            call(images(rows, 4, seed=seed))


def eager_counts() -> list[ts.StateCounts]:
    model = Network()
    with ts.capture(model, ["Linear", "ReLU"]) as run:
        run_epoch(model)
    return [point.histogram() for point in run.values()]


def whole(model: Network, options: dict[str, object]) -> Call:
    return torch.compile(model, backend="eager", options=options)


def block(model: Network, options: dict[str, object]) -> Call:
    model.blocks[0] = torch.compile(model.blocks[0], backend="eager", options=options)
    return model


def method(model: Network, options: dict[str, object]) -> Call:
    model.blocks[1].compile(backend="eager", options=options)
    return model


def function(model: Network, options: dict[str, object]) -> Call:
    return torch.compile(lambda x: model(x), backend="eager", options=options)


def check_nothing(guards: list[object]) -> list[bool]:
    return [False for _ in guards]


FILTERS = [
    getattr(torch.compiler, "skip_guard_on_all_nn_modules_unsafe", check_nothing),
    getattr(torch.compiler, "skip_guard_on_inbuilt_nn_modules_unsafe", check_nothing),
    check_nothing,
]
WAYS = [whole, block, method, function]
# Each way, and each filter.
SAMPLE = [(way, FILTERS[number % 3]) for number, way in enumerate(WAYS)]


@pytest.mark.parametrize(
    ("way", "guard_filter"), thinned(list(itertools.product(WAYS, FILTERS)), SAMPLE)
)
def test_graphs_that_check_no_modules(way, guard_filter):
    model = Network()
    call = way(model, {"guard_filter_fn": guard_filter})
    run_epoch(call)
    for _ in range(2):
        with ts.capture(model, ["Linear", "ReLU"]) as run:
            run_epoch(call)
        assert [point.histogram() for point in run.values()] == eager_counts()
        run_epoch(call)
        assert run.instance_count == sum(SIZES)


def without_guards(model: Network) -> ts.Run:
    """Capture a model whose first block runs in a graph from before, which nothing checks.

    Only the first pass has its states: it is followed, and so runs without compiled graphs.
    """
    model.blocks[0] = torch.compile(model.blocks[0], backend="eager")
    run_epoch(model)
    with (
        torch.compiler.set_stance(skip_guard_eval_unsafe=True),
        ts.capture(model, "Linear") as run,
    ):
        run_epoch(model)
    return run


def replaced_meanwhile(model: Network) -> ts.Run:
    """Capture a model that becomes TorchScript after one pass."""
    script = torch.jit.trace(copy.deepcopy(model.blocks[0]), torch.ones(2, 4))
    with ts.capture(model, "Linear") as run:
        model(images(8, 4))
        model.blocks[0].forward = script.forward
        run_epoch(model)
    return run


WAYS = {
    without_guards: "4 of the model's 5 passes .*skip_guard_eval_unsafe",
    replaced_meanwhile: "5 of the model's 6 passes .*TorchScript",
}


@ignores_torchscript
@pytest.mark.parametrize("way", WAYS)
def test_a_layer_that_was_bypassed_has_no_measures(way):
    run = way(Network())
    missed, captured = run.values()
    for point in (missed, copy.deepcopy(missed), pickle.loads(pickle.dumps(missed))):
        for read in (point.entropy, point.counts, point.counts_by, point.chunks):
            with pytest.raises(ts.errors.PassesMissed, match=f"blocks.0.linear.*{WAYS[way]}"):
                read()
    for read in (run.report, run.network_efficiency):
        with pytest.raises(ts.errors.PassesMissed, match=WAYS[way]):
            read()
    assert "blocks.0.linear_post_states" in run._repr_html_()
    assert captured.entropy() > 0
    missed.reset_states()
    with pytest.raises(ts.errors.NothingCaptured):
        missed.entropy()


@ignores_torchscript
def test_a_layer_that_was_bypassed_is_refused_while_it_is_captured():
    model = ts.build_efficiency_model(Network(), "Linear")
    model(images(8, 4))
    assert ts.report(model).layers[0].states == 8
    model.blocks[0].forward = torch.jit.trace(Block(), torch.ones(2, 4)).forward
    assert ts.report(model).layers[0].states == 8  # as long as it has missed nothing
    model(images(8, 4))
    with pytest.raises(ts.errors.PassesMissed, match="1 of the model's 2 passes"):
        ts.report(model)
