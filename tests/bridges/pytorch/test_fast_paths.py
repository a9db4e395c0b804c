"""Attention modules call the same fused functions in a pass that is followed as in all others."""

import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import tensorstate_gpu as ts
from tests.support.torch_models import expected_rows, images

pytestmark = pytest.mark.filterwarnings(
    "ignore:The PyTorch API of nested tensors is in prototype stage"
)
KEEP = torch.arange(5) < torch.tensor([[5], [2], [3]])


class Encoder(nn.Module):
    """Of padded inputs; its hidden layers are nested tensors in eval mode."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention, self.head = attention, nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.attention, nn.MultiheadAttention):
            found, _ = self.attention(x, x, x, key_padding_mask=~KEEP, need_weights=False)
        else:
            found = self.attention(x, src_key_padding_mask=~KEEP)
        return self.head(found)


def encoder(kind: str) -> Encoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    return Encoder(attention if kind == "attention" else nn.TransformerEncoder(layer, 2)).eval()


@pytest.mark.parametrize("kind", ["encoder", "attention"])
@torch.no_grad()
def test_the_pass_that_is_followed_computes_what_all_others_do(kind):
    model, x = encoder(kind), images(3, 5, 8)
    bare = model(x)
    with ts.capture(model, "head") as run:
        passes = [model(x) for _ in range(3)]
    for output in passes:
        assert output.numpy().tobytes() == bare.numpy().tobytes()
    np.testing.assert_array_equal(run["head"].raw_states, expected_rows(torch.cat([bare] * 3)))


@torch.no_grad()
def test_inputs_and_positions_are_followed_through_nested_tensors():
    model, x = encoder("encoder"), images(3, 5, 8)
    with ts.capture(model, ["head", "TransformerEncoder"]) as run:
        with run.labels([0, 1, 1]):
            model(x)
        assert {k: c.total for k, c in run["head"].counts_by().items()} == {0: 5, 1: 10}
        run.reset()
        with run.labels([0, 1, 1], mask=KEEP):
            model(x)
    for name in ("head", "attention"):
        assert {k: c.total for k, c in run[name].counts_by().items()} == {0: 5, 1: 5}
    np.testing.assert_array_equal(run["head"].raw_states, expected_rows(model(x)[KEEP]))


class Seen(TorchFunctionMode):
    """A mode of the user, which torch.nn sees as without a capture."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_modes_of_the_user_are_seen_and_stay():
    model, x, original = encoder("encoder"), images(3, 5, 8), torch.overrides.has_torch_function
    with Seen() as mode:
        bare = model(x)
        with ts.capture(model, "head") as run, Seen():
            assert model(x).numpy().tobytes() == bare.numpy().tobytes()
        assert run["head"].axis_origin == "layer"
        assert torch._C._get_function_stack_at(0) is mode
        assert torch._C._len_torch_function_stack() == 1
    assert not torch.equal(bare, model(x))  # the fast path gives other numbers where padding is
    assert torch.overrides.has_torch_function is original


@torch.no_grad()
def test_other_threads_and_failed_passes_put_the_function_back():
    original, x = torch.overrides.has_torch_function, images(3, 5, 8)

    def follow() -> None:
        model = encoder("encoder")
        with ts.capture(model, "head"), pytest.raises(AssertionError, match="embedding dimension"):
            model(x[..., :7])  # fails while it is followed

    threads = [threading.Thread(target=follow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.overrides.has_torch_function is original
