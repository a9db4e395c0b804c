"""A hooked model is the same model: numbers, in-place operations, hooks, copies, state_dict."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import capture_hooks_of, expected_rows, hooks_of, images


def network() -> nn.Sequential:
    """A convolutional network with batch norm, dropout and in-place activations."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 4, 3),
        nn.Hardswish(inplace=True),
        nn.Dropout(0.4),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def train(model: nn.Module, steps: int = 4) -> dict[str, torch.Tensor]:
    """Outputs, gradients and trained weights of some steps of SGD, always with the same seed."""
    torch.manual_seed(4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    found: dict[str, torch.Tensor] = {}
    for step in range(steps):
        x = images(16, 1, 14, 14, seed=step).requires_grad_()
        output = model(x)
        optimizer.zero_grad()
        nn.functional.cross_entropy(output, torch.arange(16) % 10).backward()
        found[f"output {step}"], found[f"input gradient {step}"] = output.detach(), x.grad
        for name, parameter in model.named_parameters():
            found[f"{name} gradient {step}"] = parameter.grad.clone()
        optimizer.step()
    found |= {name: value.clone() for name, value in model.state_dict().items()}
    return found


def assert_bit_identical(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert a[name].numpy().tobytes() == b[name].numpy().tobytes(), name


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_a_hooked_model_trains_bit_for_bit_as_a_bare_one(keep):
    bare = train(network())
    model = ts.build_efficiency_model(network(), "*", method="both", keep=keep)
    assert_bit_identical(train(model), bare)
    assert len(model.efficiency_layers) == 18
    assert all(point.instance_count == 64 for point in model.efficiency_layers)
    # The comparison can fail: other weights train to other numbers.
    other = network()
    with torch.no_grad():
        other[0].weight[0, 0, 0, 0] += 1e-6
    with pytest.raises(AssertionError):
        assert_bit_identical(train(other), bare)


@torch.no_grad()
def test_inference_bit_for_bit():
    model, x = network().eval(), images(5, 1, 14, 14)
    bare = model(x).clone()
    with ts.capture(model, "*", method="both"):
        hooked = model(x)
    assert hooked.numpy().tobytes() == bare.numpy().tobytes()


# ---- in-place operations after the hook ----------------------------------------------------------


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.layer(x)
        out += x
        return out


IN_PLACE: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(-0.5, inplace=True),
    "hardswish": lambda: nn.Hardswish(inplace=True),
    "dropout": lambda: nn.Dropout(0.5, inplace=True),
}


@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "dense"])
@pytest.mark.parametrize("operation", [*IN_PLACE, "residual"])
def test_states_are_those_before_a_later_operation_in_place(operation, layout, keep):
    torch.manual_seed(5)
    x = images(8, 3) if layout == "dense" else images(4, 3, 5, 6)
    if layout == "channels_last":
        x = x.to(memory_format=torch.channels_last)
    layer: nn.Module = nn.Linear(3, 3) if layout == "dense" else nn.Conv2d(3, 3, 1)
    if operation == "residual":
        model: nn.Module = Residual()
        model.layer = layer
        name = "layer"
    else:
        model, name = nn.Sequential(layer, IN_PLACE[operation]()), "0"
    expected = ts.count_states(expected_rows(layer(x), 1))
    with ts.capture(model, name, keep=keep) as run:
        after = model(x)
    counts = run[f"{name}_post_states"].histogram()
    assert counts.state_ids() == expected.state_ids()
    np.testing.assert_array_equal(counts.counts, expected.counts)
    if operation not in ("relu", "hardswish"):  # those two leave x > 0 as it was
        changed = ts.count_states(expected_rows(after, 1))
        assert changed != expected, "the operation changed nothing: this test cannot fail"


def test_the_hook_returns_none_and_the_model_the_very_tensor():
    given = images(2, 3)

    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return given

    model = nn.Sequential(Fixed())
    ts.build_efficiency_model(model, "Fixed", method="both")
    assert model(images(2, 3)) is given
    hook = ts.StateCaptureHook("by hand")
    assert hook(model[0], (given,), given) is None
    assert hook(model[0], (given,)) is None
    assert hook.state_count == 4


# ---- hooks and copies ----------------------------------------------------------------------------


def users_hook(*_: Any) -> None:
    """A hook of the user's own."""


def test_remove_state_layers_removes_only_our_hooks():
    model = network()
    handles = [model[0].register_forward_hook(users_hook)]
    ts.build_efficiency_model(model, "*", method="both")
    assert len(capture_hooks_of(model)) == 18
    handles.append(model[0].register_forward_pre_hook(users_hook, with_kwargs=True))
    assert ts.remove_state_layers(model) is model
    assert not hasattr(model, "efficiency_layers")
    assert hooks_of(model) == [users_hook, users_hook]
    for handle in handles:
        handle.remove()
    assert hooks_of(model) == []


def test_capture_removes_only_our_hooks_whatever_happens():
    model = network()
    model[0].register_forward_hook(users_hook)

    def capture_and_fail() -> None:
        with ts.capture(model, "*", method="both") as run:
            runs.append(run)
            model[0].register_forward_pre_hook(users_hook, with_kwargs=True)
            model(images(2, 1, 14, 14))
            assert len(capture_hooks_of(model)) == 18
            raise ArithmeticError("as told")

    runs: list[ts.Run] = []
    with pytest.raises(ArithmeticError, match="as told"):
        capture_and_fail()
    assert hooks_of(model) == [users_hook, users_hook]
    model(images(2, 1, 14, 14))
    assert [point.instance_count for point in runs[0].efficiency_layers] == [2] * 18


def test_attaching_twice_adds_no_second_hook():
    model = ts.build_efficiency_model(network(), "Conv2d")
    points = list(model.efficiency_layers)
    assert ts.build_efficiency_model(model, ["Conv2d", "Linear"]) is model
    assert [point.name for point in model.efficiency_layers] == [
        f"{k}_post_states" for k in (0, 4, 8)
    ]
    assert model.efficiency_layers[:2] == points
    assert len(capture_hooks_of(model)) == 3
    model(images(2, 1, 14, 14))
    assert [point.instance_count for point in model.efficiency_layers] == [2, 2, 2]


def test_capture_leaves_the_points_of_a_built_model_alone():
    model = ts.build_efficiency_model(network(), "Linear")
    with ts.capture(model, "Linear") as run:
        model(images(2, 1, 14, 14))
    model(images(3, 1, 14, 14))
    assert run["8_post_states"].state_count == 2
    assert model.efficiency_layers[0].state_count == 5


def test_state_dict_and_parameters_are_unchanged_by_attaching():
    model = network()
    before = model.state_dict()
    modules = [name for name, _ in model.named_modules()]
    ts.build_efficiency_model(model, "*", method="both")
    assert list(model.state_dict()) == list(before)
    assert [name for name, _ in model.named_modules()] == modules
    network().load_state_dict(model.state_dict())


def test_remove_and_attach_again():
    model = ts.build_efficiency_model(network(), "Conv2d")
    ts.remove_state_layers(model)
    with pytest.raises(ValueError, match="has no capture points"):
        ts.remove_state_layers(model)
    ts.build_efficiency_model(model, "Linear", keep="counts")
    model(images(2, 1, 14, 14))
    (point,) = model.efficiency_layers
    assert (point.name, point.keep, point.state_count) == ("8_post_states", "counts", 2)
    assert len(capture_hooks_of(model)) == 1
