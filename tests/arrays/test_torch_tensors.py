"""Plain torch tensors are read where they lie, without a DLPack capsule; all others through one."""

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu._arrays import dlpack

X = torch.randn(6, 20)
PLAIN = {
    "a tensor": X,
    "every other column": X[:, ::2],
    "transposed": X.T,
    "one row over and over": X[:1].expand(6, 20),
    "with a gradient": X.clone().requires_grad_() * 2,
    "a parameter": torch.nn.Parameter(X),
    "bfloat16": X.bfloat16(),
    "bool": X > 0,
}
OTHERS = {"no rows": X[:0], "a subclass": X.as_subclass(type("Marked", (torch.Tensor,), {}))}


@pytest.fixture
def capsules(monkeypatch):
    made = []
    capsule = dlpack._dlpack_capsule
    monkeypatch.setattr(dlpack, "_dlpack_capsule", lambda x: made.append(x) or capsule(x))
    return made


@pytest.mark.parametrize("name", [*PLAIN, *OTHERS])
def test_states_are_the_same_either_way(name, capsules):
    x = (PLAIN | OTHERS)[name]
    packed = ts.compress_states(x)
    assert bool(capsules) == (name in OTHERS)
    expected = ts.compress_states(x.detach().as_subclass(torch.Tensor).float().numpy())
    np.testing.assert_array_equal(packed.as_subclass(torch.Tensor).numpy(), expected)


def test_a_lazy_minus_sign_is_not_ignored():
    negated = torch.complex(X, X).conj().imag
    assert negated.is_neg()
    with pytest.raises(TypeError, match="resolve_neg"):
        ts.compress_states(negated)
    np.testing.assert_array_equal(
        ts.compress_states(negated.resolve_neg()).numpy(), ts.compress_states(-X.numpy())
    )


def test_tensors_without_memory_of_their_own_are_refused():
    with pytest.raises(TypeError, match="states cannot be read through DLPack"):
        torch.func.vmap(ts.compress_states)(X[None])
    with pytest.raises(TypeError, match="states"):
        ts.compress_states(X.to("meta"))


class Misaligned:
    """A tensor on a GPU that begins within a number, as far as it is asked."""

    dtype, layout = torch.float32, torch.strided
    is_cpu, is_cuda = False, True

    def is_neg(self):
        return False

    def data_ptr(self):
        return 0x1001

    def stride(self):
        return (1,)


def test_misaligned_cuda_tensors_are_left_to_the_check_of_capsules(monkeypatch):
    """A kernel that loads a number from such an address fails for the rest of the process."""
    monkeypatch.setattr(dlpack, "plain_types", lambda: {Misaligned})
    assert dlpack.plain_torch_tensor(Misaligned()) is None
