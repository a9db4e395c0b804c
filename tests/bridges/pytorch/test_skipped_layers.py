"""``attach_to="*"`` skips what cannot be captured; what is named is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import images


class Returns(nn.Module):
    """Returns what a function makes of its input."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


SKIPPED = {
    "complex": lambda x: torch.complex(x, x),
    "sparse_coo": torch.Tensor.to_sparse,
    "sparse_csr": torch.Tensor.to_sparse_csr,
    "nested": lambda x: torch.nested.nested_tensor([x, x[:2]]),
    "quint4x2": lambda x: torch.quantize_per_channel(
        x, torch.ones(9), torch.zeros(9), 0, torch.quint4x2
    ),
    "float8_e8m0fnu": lambda x: x.to(torch.float8_e8m0fnu),  # scales, without a sign
    "float4_e2m1fn_x2": lambda x: x.to(torch.uint8).view(torch.float4_e2m1fn_x2),
}


@pytest.mark.filterwarnings(
    "ignore:.*(prototype|beta state|deprecated|axis is a guess):UserWarning"
)
@pytest.mark.parametrize("kind", SKIPPED)
def test_all_layers_are_those_that_can_be_captured(kind):
    """As of Llama 4, of which one layer makes the complex table of its rotations."""
    table = Returns(lambda x: SKIPPED[kind](x.detach()))
    model = nn.Sequential(nn.Linear(3, 4), table)
    with (
        pytest.warns(ts.errors.SkippedLayersWarning, match=rf"1_post_states \({kind}\)"),
        ts.capture(model, "*") as run,
    ):
        model(images(9, 3))
    assert run["0_post_states"].state_count == 9
    assert "0_post_states" in str(run.report())
    with pytest.raises(ts.errors.NothingCaptured, match=f"1_post_states.*{kind}"):
        run["1_post_states"].entropy()
    for patterns in ("1", ["*", "1"], [Returns, "*"], lambda name, layer: True, ["*", table]):
        with ts.capture(model, patterns), pytest.raises(TypeError, match="1_post_states: "):
            model(images(9, 3))


@pytest.mark.parametrize("method", ["before", "both"])
def test_inputs_of_layers_are_skipped_too(method):
    model = nn.Sequential(Returns(lambda x: torch.complex(x, x)), Returns(torch.abs))
    with (
        pytest.warns(ts.errors.SkippedLayersWarning, match=r"1_pre_states \(complex\)"),
        ts.capture(model, "*", method=method) as run,
    ):
        model(images(9, 3))
    assert run["0_pre_states"].state_count == 9


def test_a_model_that_is_built_for_all_layers():
    model = nn.Sequential(nn.Linear(3, 4), Returns(lambda x: torch.complex(x, x)))
    ts.build_efficiency_model(model, "*")
    with pytest.warns(ts.errors.SkippedLayersWarning):
        model(images(9, 3).requires_grad_())
    assert [point.state_count for point in model.efficiency_layers] == [9, 0]


def test_a_layer_that_must_be_skipped_in_a_compiled_model():
    model = nn.Sequential(nn.Linear(3, 4), Returns(lambda x: torch.complex(x, x)))
    with (
        pytest.warns(ts.errors.SkippedLayersWarning, match=r"1_post_states \(complex\)"),
        ts.capture(model, "*") as run,
    ):
        torch.compile(model, backend="eager")(images(9, 3))
    assert run["0_post_states"].state_count == 9
