"""Compiled models have the neuron axes of the model itself."""

import gc
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.pytorch.axis_flow import graph_axes
from tensorstate_gpu.bridges.pytorch.eager_passes import EagerPasses
from tensorstate_gpu.errors import GuessedAxisWarning
from tests.support.followed_models import Calls
from tests.support.samples import thinned
from tests.support.torch_models import images

pytestmark = pytest.mark.usefixtures("nothing_compiled_before")


class ConvBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv1d(3, 8, 3), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.conv(x))


class ConvNeXtBlock(nn.Module):
    """Its dense layers have channels last; before and after it, they are first."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv1d(3, 3, 3, padding=1, groups=3), nn.LayerNorm(3)
        self.wide, self.act, self.narrow = nn.Linear(3, 9), nn.GELU(), nn.Linear(9, 3)
        self.drop = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.depthwise(x).transpose(1, 2)
        return self.drop(x + self.narrow(self.act(self.wide(self.norm(y)))).mT)


class Network(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block, self.out = block, nn.Tanh()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.block(x))


Call = Callable[[torch.Tensor], object]


def wrapped(model: Network, backend: object) -> Call:
    return torch.compile(model, backend=backend, fullgraph=True)


def method(model: Network, backend: object) -> Call:
    model.compile(backend=backend)
    return model


def forward_replaced(model: Network, backend: object) -> Call:
    model.forward = torch.compile(model.forward, backend=backend)
    return model


def function(model: Network, backend: object) -> Call:
    return torch.compile(lambda x: model(x) * 2, backend=backend)


def block_wrapped(model: Network, backend: object) -> Call:
    model.block = torch.compile(model.block, backend=backend)
    return model


def block_method(model: Network, backend: object) -> Call:
    model.block.compile(backend=backend)
    return model


WAYS = (wrapped, method, forward_replaced, function, block_wrapped, block_method)


def captured(model: nn.Module, call: Call) -> list[tuple[object, ...]]:
    with torch.no_grad(), ts.capture(model, "*") as run:
        for batch in (2, 3, 4, 5):  # of these, torch.compile makes two graphs
            call(images(batch, 3, 20))
    return [(p.name, p.axis, p.axis_origin, p.state_count, p.passes) for p in run.efficiency_layers]


# Each way, and each block: for the whole model and for a part.
BOTH = list(itertools.product(WAYS, [ConvBlock, ConvNeXtBlock]))
SLOW = (method, block_wrapped)
SAMPLE = [(way, ConvNeXtBlock if way in SLOW else ConvBlock) for way in WAYS]


@pytest.mark.parametrize(("way", "block"), thinned(BOTH, SAMPLE))
def test_a_compiled_model_has_the_axes_of_the_model(way, block):
    backend = CompileCounter() if block is ConvBlock else "aot_eager"
    plain, model = Network(block()), Network(block())
    found = captured(model, way(model, backend))
    assert found == captured(plain, plain)
    assert {origin for _, _, origin, *_ in found} == {"layer", "flow"}
    assert block is not ConvBlock or backend.frame_count > 0


def test_where_the_axis_is_lost_in_a_compiled_graph_that_is_said():
    model = Calls(lambda m, x: torch.cdist(m.fc(x), m.fc(x)), fc=nn.Linear(4, 9))
    compiled = torch.compile(model, backend="eager")
    with (
        pytest.warns(GuessedAxisWarning, match="act_post_states .lost at cdist"),
        ts.capture(model, "act") as run,
    ):
        compiled(images(2, 9, 4))
    assert run["act_post_states"].axis_origin == "guess"


def test_neurons_among_the_inputs_of_a_compiled_graph_are_no_axis():
    model = Calls(lambda m, x: m.conv(x).flatten(0, 1), conv=nn.Conv2d(3, 5, 3))
    compiled = torch.compile(model, backend="eager")
    with pytest.warns(GuessedAxisWarning), ts.capture(model, "act"):
        compiled(images(2, 3, 9, 8))


def test_what_is_known_of_a_graph_ends_with_it():
    gc.collect()
    before = len(graph_axes._axes)  # of other tests
    model = Network(ConvBlock())
    captured(model, wrapped(model, "eager"))
    assert len(graph_axes._axes) > before
    del model
    torch.compiler.reset()
    gc.collect()
    assert len(graph_axes._axes) <= before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_error_in_the_followed_pass_models_are_compiled_again(error):
    def fail(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        raise error

    model, backend = Calls(fail), CompileCounter()
    with ts.capture(model, "act"), pytest.raises(error):
        model(images(2, 3))
    torch.compile(lambda x: x + 1, backend=backend)(images(2, 3))
    assert backend.frame_count == 1


def test_passes_that_overlap_leave_the_setting_of_pytorch_as_it_was():
    eager, backend = EagerPasses(), CompileCounter()
    call = torch.compile(lambda x: x + 1, backend=backend)
    one, other = images(1, 1), images(1, 1)  # any two objects
    assert eager.begin(one)
    assert eager.begin(other)
    call(images(2, 3))
    eager.end(one)
    call(images(2, 3))
    assert backend.frame_count == 0
    eager.end(other)
    call(images(2, 3))
    assert backend.frame_count == 1


def test_while_a_pass_is_followed_compiled_models_of_other_threads_stay_compiled():
    backend = CompileCounter()
    other = torch.compile(lambda x: x + 1, backend=backend)

    def call_other(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        other(x)
        assert backend.frame_count == 0  # in this thread, which is followed
        with ThreadPoolExecutor(1) as pool:
            pool.submit(other, x).result()
        assert backend.frame_count == 1
        return model.act(x)

    model = Calls(call_other)
    with ts.capture(model, "act", neuron_axis=1):
        model(images(2, 3))
    torch.compile(lambda x: x + 2, backend=backend)(images(2, 3))
    assert backend.frame_count == 2


@pytest.mark.parametrize("error", [AttributeError, RuntimeError])
def test_where_pytorch_cannot_run_compiled_parts_plainly_nothing_is_followed(error, monkeypatch):
    """Before torch 2.6, and inside of a compiled function."""

    def refuse(stance: str) -> object:
        raise error

    monkeypatch.setattr(torch.compiler, "set_stance", refuse)
    model = Calls(lambda m, x: m.conv(x), conv=nn.Conv1d(3, 8, 3))
    with (
        pytest.warns(GuessedAxisWarning, match="act_post_states .this pass was not followed"),
        ts.capture(model, "act"),
    ):
        model(images(2, 3, 9))
