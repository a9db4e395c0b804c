"""Classes of captured modules: a subclass that changes nothing but what torch.compile guards."""

import copy
import pickle
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode

import tensorstate_gpu as ts
from tests.support.torch_models import hooks_of, images

pytestmark = pytest.mark.usefixtures("nothing_compiled_before")


class Odd(nn.Linear):
    """A layer that counts its instances and has a property, and pickles itself in its own way."""

    made = 0

    def __init__(self, size: int = 4) -> None:
        super().__init__(size, size)
        Odd.made += 1

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self), (self.in_features,), self.__getstate__()


class Closed(nn.Linear):
    """A class that permits no subclass."""

    def __init_subclass__(cls) -> None:
        raise ValueError("closed")


def test_the_class_looks_like_that_of_the_module():
    layer = nn.Linear(4, 2)
    shown = repr(layer)
    with ts.capture(layer, "*"):
        kind = type(layer)
        assert kind is not nn.Linear
        assert isinstance(layer, nn.Linear)
        assert (kind.__name__, kind.__qualname__) == ("Linear", "Linear")
        assert (kind.__module__, kind.__doc__) == (nn.Linear.__module__, nn.Linear.__doc__)
        assert repr(layer) == shown
        with ts.capture(layer, "*"):
            assert type(layer) is not kind  # two hooks
        assert type(layer) is kind
    assert type(layer) is nn.Linear


def test_equal_modules_share_their_class():
    first, second = (ts.build_efficiency_model(nn.Linear(4, 2), "*") for _ in range(2))
    assert type(first) is type(second)


def test_modules_made_from_a_captured_one_are_plain():
    model = nn.Sequential(*(Odd() for _ in range(3)))
    with ts.capture(model, "*"):
        assert type(model) is not nn.Sequential
        part = model[:2]
        assert type(part) is nn.Sequential
        part.append(nn.ReLU())
        made = Odd.made
        other = type(model[0])(5)
        assert type(other) is Odd
        assert (Odd.made, other.in_features) == (made + 1, 5)


class Sliced(nn.Module):
    """Runs some of its blocks, as decoders do: ``self.layers[: self.config.num_hidden_layers]``."""

    def __init__(self, blocks: nn.Sequential | nn.ModuleList) -> None:
        super().__init__()
        self.blocks = blocks.extend(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        some = self.blocks[:2]
        if isinstance(some, nn.Sequential):
            return some(x)
        for block in some:
            x = block(x)
        return x


@pytest.mark.parametrize("container", [nn.Sequential, nn.ModuleList])
def test_slices_of_captured_modules_divide_no_compiled_graph(container):
    model, x = Sliced(container()), images(5, 4)
    with torch.no_grad(), ts.capture(model, "*") as run:
        torch.compile(model, backend="eager", fullgraph=True)(x)
    with torch.no_grad(), ts.capture(model, "*") as expected:
        model(x)
    assert run["blocks.1"].histogram([0]) == expected["blocks.1"].histogram([0])
    assert {name: point.state_count for name, point in run.items()} == {
        name: point.state_count for name, point in expected.items()
    }


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_of_modules_that_pickle_in_their_own_way(copied):
    layer = ts.build_efficiency_model(Odd(), "*")
    twin = copied(layer)
    assert hooks_of(twin) == []
    assert type(twin) is Odd
    twin(images(5, 4))
    assert layer.efficiency_layers[0].state_count == 0


def test_a_pickle_names_the_plain_class():
    assert b"Odd" in pickle.dumps(ts.build_efficiency_model(nn.Sequential(Odd()), "*"))


def test_a_subclass_of_a_marked_class():
    layer = nn.Linear(4, 2)
    with ts.capture(layer, "*") as outer:
        layer.__class__ = type("FSDPLinear", (type(layer),), {})  # as fully_shard() does
        kind = type(layer)
        assert (kind(3, 5).out_features, type(kind(3, 5))) == (5, kind)
        with ts.capture(layer, "Linear") as inner:
            twin = copy.deepcopy(layer)
            assert type(type(layer)(3, 5)) is kind
            layer(images(8, 4))
    assert type(layer) is kind
    twin(images(8, 4))
    assert (outer.instance_count, inner.instance_count) == (8, 8)


def parametrized() -> nn.Linear:
    return nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))


def closed() -> nn.Linear:
    return Closed(4, 4)


def graph_module() -> torch.fx.GraphModule:
    return torch.fx.symbolic_trace(nn.Sequential(nn.Linear(4, 4)))


# What a compiled graph_module returns, comes from outside of its graph: see test_graph_breaks.py.
GUESSES = pytest.mark.filterwarnings("ignore:.*lost at a graph break")


@pytest.mark.parametrize("make", [parametrized, closed, pytest.param(graph_module, marks=GUESSES)])
def test_a_module_whose_class_stays(make):
    layer, backend = make(), CompileCounter()
    kind = type(layer)
    compiled = torch.no_grad()(torch.compile(layer, backend=backend))
    compiled(images(8, 4))
    for _ in range(2):
        with ts.capture(nn.Sequential(layer), "0") as run:
            assert type(layer) is kind
            compiled(images(8, 4))
        compiled(images(8, 4))
        assert run["0"].state_count == 8
        if not isinstance(layer, torch.fx.GraphModule):
            assert run.instance_count == 8


def test_a_parametrization_that_ends_while_the_layer_is_captured():
    layer = parametrized()
    with ts.capture(nn.Sequential(layer), "0") as run:
        nn.utils.parametrize.remove_parametrizations(layer, "weight")
        layer(images(8, 4))
    assert run.instance_count == 8
    assert type(layer) is nn.Linear


def test_a_parametrization_that_begins_while_the_layer_is_captured():
    layer = nn.Linear(4, 4)
    with ts.capture(layer, "Linear") as run:
        nn.utils.parametrizations.weight_norm(layer)
        layer(images(8, 4))
    layer(images(8, 4))
    assert run.instance_count == 8
    nn.utils.parametrize.remove_parametrizations(layer, "weight")
    assert hooks_of(layer) == []


@pytest.mark.parametrize("mode", [FakeTensorMode, torch.inference_mode, torch.device])
def test_attaching_inside_modes_of_torch(mode):
    if mode is torch.device:
        mode = partial(mode, "meta")
    layer = nn.Linear(4, 2)
    with mode():
        ts.build_efficiency_model(layer, "*")
    torch.compile(layer, backend="aot_eager")(images(8, 4))
    assert layer.efficiency_layers[0].instance_count == 8
    assert layer.efficiency_layers[0].passes == (1, 1)
    with mode():
        ts.remove_state_layers(layer)


def test_cuda_graphs_are_refused(monkeypatch):
    class OnCuda(torch.Tensor):
        is_cuda = True

    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    layer = nn.Identity()
    with ts.capture(layer, "*"), pytest.raises(ValueError, match="captured in a CUDA graph"):
        layer(images(8, 4).as_subclass(OnCuda))
