"""Models and layers that run no hooks, or that torch made anew: refused at once, or found."""

import copy
import inspect

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import hooks_of, ignores_torchscript, images


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def script(model: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.script(model)


def trace(model: nn.Module) -> torch.jit.ScriptModule:
    return torch.jit.trace(model, torch.ones(2, 4))


@ignores_torchscript
@pytest.mark.parametrize("make", [script, trace])
def test_torchscript_is_refused(make):
    with pytest.raises(ValueError, match="model is TorchScript, which runs no hooks"):
        ts.build_efficiency_model(make(network()), "*")
    outer = nn.Sequential(make(network()), nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"^0\S* is TorchScript.*exclude= it"):
        ts.build_efficiency_model(outer, "*")
    assert hooks_of(outer) == []
    with ts.capture(outer, "Linear", exclude="0*") as run:
        outer(images(5, 4))
    assert [*run] == ["1_post_states"]
    assert run["1_post_states"].state_count == 5


def replaced_by_a_script(model: nn.Module) -> None:
    model.forward = torch.jit.trace(copy.deepcopy(model), torch.ones(2, 4)).forward


def replaced_by_a_cuda_graph(model: nn.Module) -> None:
    def new_fwd(*user_args: torch.Tensor) -> torch.Tensor:
        """What torch.cuda.make_graphed_callables puts there, as far as it can be seen."""

    new_fwd.__module__ = "torch.cuda.graphs"
    model.forward = new_fwd


def test_torch_puts_its_cuda_graphs_where_we_look():
    source = inspect.getsource(torch.cuda.graphs.make_graphed_callables)
    assert "def new_fwd(" in source
    assert "func.forward = make_graphed_forward(" in source


@ignores_torchscript
@pytest.mark.parametrize("replace", [replaced_by_a_script, replaced_by_a_cuda_graph])
def test_layers_that_a_replaced_forward_bypasses_are_refused(replace):
    model = nn.Sequential(network(), nn.Linear(2, 2))
    replace(model[0])
    with pytest.raises(ValueError, match=r"^0.0 is inside a module whose forward was replaced"):
        ts.build_efficiency_model(model, "Linear")
    assert hooks_of(model) == []
    ts.build_efficiency_model(model, "1")


@ignores_torchscript
def test_a_failed_attempt_leaves_no_store(tmp_path):
    outer = nn.Sequential(nn.Linear(4, 4), script(network()))
    for _ in range(2):
        with pytest.raises(ValueError, match="is TorchScript"):
            ts.build_efficiency_model(outer, "*", storage_path=tmp_path / "run")
    ts.build_efficiency_model(outer, "0", storage_path=tmp_path / "run")
    outer(images(5, 4))
    assert outer.efficiency_layers[0].state_count == 5


@pytest.mark.parametrize(
    "parametrize",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.parametrizations.orthogonal,
    ],
)
def test_parametrized_layers_keep_their_class_name(parametrize):
    model = nn.Sequential(parametrize(nn.Linear(4, 3)), nn.ReLU(), nn.Linear(3, 2))
    for pattern in ("Linear", "Lin*", nn.Linear):
        with ts.capture(model, pattern) as run:
            model(images(5, 4))
        assert [*run] == ["0_post_states", "2_post_states"]
    with ts.capture(model, "ParametrizedLinear") as run:
        model(images(5, 4))
    assert [*run] == ["0_post_states"]
    with ts.capture(model, "*", exclude=["Linear", "0.*"]) as run:
        model(images(5, 4))
    assert [*run] == ["1_post_states"]


@pytest.mark.parametrize("own", [None, 3, ["conv1"], {"a": 1}], ids=repr)
def test_a_model_that_has_the_attribute_itself(own):
    model = network()
    model.efficiency_layers = own
    for call in (
        lambda: ts.build_efficiency_model(model, "Linear"),
        lambda: ts.reset_efficiency_model(model),
        lambda: ts.remove_state_layers(model),
    ):
        with pytest.raises(ValueError, match="has an attribute efficiency_layers of its own"):
            call()
    assert model.efficiency_layers is own
    assert hooks_of(model) == []
    with ts.capture(model, "Linear") as run:  # has no need of the attribute
        model(images(5, 4))
    assert len(run) == 2
