"""PyTorch's other ways to run a model: recomputed, traced, transformed, cast."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint_sequential

import tensorstate_gpu as ts
from tests.support.torch_models import (
    Checkpointed,
    expected_rows,
    hooks_of,
    ignores_torchscript,
    images,
    perceptron,
)


@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_forward_passes_are_not_counted_twice(reentrant, keep):
    model, calls = Checkpointed(perceptron(), reentrant), []
    model.inner[0].register_forward_hook(lambda *_: calls.append(1))
    with ts.capture(model, "*Linear*", method="both", keep=keep) as run:
        for seed in range(3):
            model(images(8, 6, seed=seed).requires_grad_()).sum().backward()
    assert len(calls) == 6, "nothing was recomputed: this test cannot fail"
    assert [point.state_count for point in run.efficiency_layers] == [24] * 4
    rows = [expected_rows(model.inner[0](images(8, 6, seed=seed))) for seed in range(3)]
    counts = run["inner.0_post_states"].histogram()
    assert counts == ts.count_states(np.concatenate(rows), neurons=20)


def test_a_sequence_of_checkpoints_within_one_backward():
    model = nn.Sequential(*(nn.Linear(6, 6) for _ in range(4)))
    with ts.capture(model, "Linear") as run:
        x = images(8, 6).requires_grad_()
        checkpoint_sequential(model, 2, x, use_reentrant=False).sum().backward()
    assert [point.state_count for point in run.efficiency_layers] == [8] * 4


def test_a_forward_pass_after_backward_counts_again():
    model = Checkpointed(perceptron(), False)
    with ts.capture(model, "inner.0") as run:
        model(images(8, 6).requires_grad_()).sum().backward()
        model(images(8, 6))
    assert run["inner.0_post_states"].state_count == 16


@pytest.mark.parametrize("kind", ["fake", "meta"])
def test_tensors_without_numbers_are_not_counted(kind):
    model = perceptron()
    with ts.capture(model, "Linear", method="both") as run:
        if kind == "meta":
            assert model.to("meta")(torch.empty(8, 6, device="meta")).shape == (8, 4)
        else:
            with FakeTensorMode(allow_non_fake_inputs=True):
                assert model(torch.empty(8, 6)).shape == (8, 4)
    for point in run.efficiency_layers:
        assert point.neurons is None
        with pytest.raises(ValueError, match="nothing captured"):
            point.entropy()


def test_capture_goes_on_after_fake_tensors():
    model = ts.build_efficiency_model(perceptron(), "0")
    with FakeTensorMode(allow_non_fake_inputs=True):
        model(torch.empty(8, 6))
    model(images(5, 6))
    assert model.efficiency_layers[0].state_count == 5


@ignores_torchscript
def test_tracing_is_not_counted():
    model, x = perceptron(), images(5, 6)
    bare = model(x)
    ts.build_efficiency_model(model, "Linear", method="both")
    # Its check runs the model once more, without tracing: that would be counted.
    traced = torch.jit.trace(model, x, check_trace=False)
    assert [point.state_count for point in model.efficiency_layers] == [0] * 4
    assert torch.equal(traced(x), bare)
    model(x)
    assert [point.state_count for point in model.efficiency_layers] == [5] * 4


class Block(nn.Module):
    """Returns a mapping; torch.fx enters it, as it enters every module that is not torch's own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(6, 6), torch.ones(6)

    def forward(self, x: torch.Tensor) -> Any:
        return {"output": self.linear(x), "scale": self.scale}


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block, self.head = Block(), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.block(x)["output"])


@pytest.mark.parametrize("whole", [True, False])
def test_symbolic_traces_of_torch_fx_are_not_counted(whole):
    model, x = Blocks(), images(5, 6)
    bare, nodes = model(x), len(torch.fx.symbolic_trace(model).graph.nodes)
    with ts.capture(model, ["Block", "Linear"], method="both") as run:
        # In part of a larger model, the captured one calls its own hooks.
        graph = torch.fx.symbolic_trace(model if whole else nn.Sequential(model))
        assert [point.state_count for point in run.efficiency_layers] == [0] * 6
        assert len(graph.graph.nodes) == nodes
        assert torch.equal(graph(x), bare)
        # A graph has the layers of the model, but not its blocks.
        assert [point.state_count for point in run.efficiency_layers] == [0, 0, 5, 5, 5, 5]
    assert torch.equal(graph(x), bare)
    assert run["head_post_states"].state_count == 5
    with ts.capture(graph, "*head") as run:
        graph(x)
    assert [point.state_count for point in run.efficiency_layers] == [5]


def test_make_fx_is_not_counted():
    model, x = perceptron(), images(5, 6)
    with ts.capture(model, "Linear") as run:
        make_fx(model, tracing_mode="real")(x)
        assert [point.state_count for point in run.efficiency_layers] == [0] * 2
        model(x)
    assert run.instance_count == 5


@ignores_torchscript
def test_scripting_a_captured_model_is_refused():
    model = perceptron()
    refused = pytest.raises(ts.errors.NotCapturable, match=r"captured.*torch\.jit\.script")
    with ts.capture(model, "Linear") as run:
        with refused:
            torch.jit.script(model)
        with refused:
            torch.jit.script(nn.Sequential(model[0]))
        model(images(5, 6))
    assert run.instance_count == 5
    assert hooks_of(model) == []


def test_torch_export_is_not_counted():
    model, x = perceptron(), images(5, 6)
    ts.build_efficiency_model(model, "Linear")
    torch.export.export(model, (x,), strict=False)
    assert [point.state_count for point in model.efficiency_layers] == [0] * 2


DERIVATIVES = {
    "grad": lambda model, x: torch.func.grad(lambda x: model(x).sum())(x),
    "grad of weights": lambda model, x: torch.func.grad(
        lambda weights: torch.func.functional_call(model, weights, (x,)).sum()
    )(dict(model.named_parameters())),
    "vjp": lambda model, x: torch.func.vjp(model, x)[0],
    "jvp": lambda model, x: torch.func.jvp(model, (x,), (x,)),
    "jacrev": lambda model, x: torch.func.jacrev(model)(x),
    "grad of grad": lambda model, x: torch.func.grad(
        lambda x: torch.func.grad(lambda x: model(x).sum())(x).sum()
    )(x),
}


@ignores_torchscript
@pytest.mark.parametrize("derivative", DERIVATIVES)
def test_derivatives_of_torch_func(derivative):
    model, x = perceptron(), images(5, 6)
    plain = DERIVATIVES[derivative](model, x)
    with ts.capture(model, "*") as run:
        found = DERIVATIVES[derivative](model, x)
    torch.testing.assert_close(found, plain, rtol=0, atol=0)
    assert run["1"].axis_origin == "flow"
    assert run.instance_count == 5
    for name in ("0", "1"):
        layers = model[: int(name) + 1]
        np.testing.assert_array_equal(run[name].raw_states, expected_rows(layers(x)))


def test_stages_refuse_transforms():
    model, x = perceptron(), images(5, 6)
    refused = pytest.raises(TypeError, match=r"0_post_states: with stage_rows=.*torch\.func")
    with ts.capture(model, "0", stage_rows=100), refused:
        torch.func.vjp(model, x)


def test_vmap_is_a_type_error_but_for_what_is_not_captured():
    model, x = perceptron(), images(3, 5, 6)
    with ts.capture(model, "0") as run:
        with pytest.raises(TypeError, match=r"inside torch\.func\.vmap.*paused"):
            torch.func.vmap(model)(x)
        with run.paused():
            torch.func.vmap(model)(x)
        assert run["0_post_states"].neurons is None
        model(images(3, 6))
    assert run["0_post_states"].state_count == 3


def test_reading_a_hook_that_never_fired_is_a_value_error():
    model = ts.build_efficiency_model(perceptron(), "Linear")
    (point, _) = model.efficiency_layers
    for read in (
        point.counts,
        point.entropy,
        point.efficiency,
        point.max_entropy,
        point.counts_by,
        point.state_ids,
        point.histogram,
        point.states_per_instance,
        lambda: point.raw_states,
        lambda: point.states,
        lambda: ts.network_efficiency(model),
        lambda: ts.report(model),
    ):
        with pytest.raises(ValueError, match="0_post_states: nothing captured yet"):
            read()


# ---- numbers of other widths, modes of training --------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_other_precision(dtype):
    model, seen = perceptron().to(dtype), []
    model[0].register_forward_hook(lambda *hooked: seen.append(hooked[2].clone()))
    with ts.capture(model, "0") as run:
        model(images(50, 6).to(dtype))
    assert seen[0].dtype == dtype
    # Every number of these formats is a float64.
    expected = expected_rows(seen[0].double())
    np.testing.assert_array_equal(run["0_post_states"].raw_states, expected)


def test_autocast():
    model, seen = perceptron(), []
    model[0].register_forward_hook(lambda *hooked: seen.append(hooked[2].clone()))
    with ts.capture(model, "0") as run, torch.autocast("cpu", torch.bfloat16):
        model(images(50, 6))
    assert seen[0].dtype == torch.bfloat16
    expected = expected_rows(seen[0].double())
    np.testing.assert_array_equal(run["0_post_states"].raw_states, expected)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_train_and_eval_with_and_without_gradients(training, mode):
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5)).train(training)
    with torch.no_grad():
        model[0].running_mean.fill_(0.3)
    seen: list[torch.Tensor] = []
    model[1].register_forward_hook(lambda *hooked: seen.append(hooked[2].clone()))
    with ts.capture(model, "1") as run, mode():
        model(images(40, 6).requires_grad_())
    np.testing.assert_array_equal(run["1_post_states"].raw_states, expected_rows(seen[0]))
    assert model.training is training


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_empty_batches(keep):
    model = perceptron()
    with ts.capture(model, "Linear", method="both", keep=keep) as run:
        for rows in (0, 3, 0, 2):
            run.labels([7] * rows)
            model(images(rows, 6))
    for point in run.efficiency_layers:
        assert (point.state_count, point.instance_count) == (5, 5)
        assert point.counts_by()[7].total == 5
    convolution = nn.Conv2d(1, 2, 3)
    with ts.capture(convolution, "Conv2d", keep=keep) as run:
        convolution(images(0, 1, 5, 5))
    with pytest.raises(ValueError, match="nothing captured"):
        run["Conv2d_post_states"].counts()
