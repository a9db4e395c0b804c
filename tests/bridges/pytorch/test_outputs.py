"""What a layer may take and return."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import expected_rows, hooks_of, images


class Returns(nn.Module):
    """Returns what a function makes of its input."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


@dataclasses.dataclass
class Output:
    name: str
    loss: torch.Tensor | None
    logits: torch.Tensor
    hidden: torch.Tensor


class ModelOutput(OrderedDict[str, Any]):
    """As Hugging Face's: fields are items and attributes; those that are None are no items."""

    def __init__(self, **fields: Any) -> None:
        super().__init__({name: value for name, value in fields.items() if value is not None})
        for name, value in fields.items():
            setattr(self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else tuple(self.values())[key]


OUTPUTS: dict[str, Callable[[torch.Tensor], Any]] = {
    "tensor": lambda x: x,
    "tuple": lambda x: (x, -x),
    "none first": lambda x: (None, x, -x),
    "nested": lambda x: ([], {"a": (x,)}, -x),
    "list": lambda x: [x, -x],
    "dict, by its keys": lambda x: {"logits": -x, "hidden": x},
    "dict of keys that do not compare": lambda x: {"z": x, 1: -x},
    "OrderedDict, in its own order": lambda x: OrderedDict(z=x, a=-x),
    "dataclass": lambda x: Output("name", None, x, -x),
    "ModelOutput": lambda x: ModelOutput(loss=None, logits=x, hidden=(-x, -x)),
    "named tuple": lambda x: torch.return_types.max((x, (-x).long())),
    "parameter": lambda x: nn.Parameter(x.detach()),
    # A model of Hugging Face that is called with labels: the loss is no activation.
    "ModelOutput with a loss": lambda x: ModelOutput(loss=x.sum(), logits=x, hidden=(-x,)),
    "tuple with a loss": lambda x: (x.sum(), (x.mean(), x), -x),
    "dataclass with a loss": lambda x: Output("name", x.sum(), x, -x),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_the_first_tensor_of_an_output_is_captured(kind):
    model = nn.Sequential(Returns(OUTPUTS[kind]))
    with ts.capture(model, "0") as run:
        model(images(9, 5))
    np.testing.assert_array_equal(run["0_post_states"].raw_states, expected_rows(images(9, 5)))


@pytest.mark.parametrize("value", [None, (), {}, "text", 3, (None, [1.5]), Output])
def test_an_output_without_a_tensor_is_skipped(value):
    model = nn.Sequential(Returns(lambda x: value))
    with (
        ts.capture(model, "0") as run,
        pytest.warns(ts.errors.SkippedLayersWarning, match="0_post"),
    ):
        model(images(2, 3))
    assert run["0_post_states"].state_count == 0
    assert hooks_of(model) == []


class WithLoss(nn.Module):
    """As models are written that return their loss: the criterion is one of their layers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.criterion = nn.Linear(3, 4), nn.CrossEntropyLoss()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.criterion(self.fc(x), torch.arange(len(x)) % 4)


@pytest.mark.parametrize("backend", [None, "eager"])
def test_a_0d_output_is_skipped(backend):
    model = WithLoss()
    called = model if backend is None else torch.compile(model, backend=backend)
    with (
        ts.capture(model, "*") as run,
        pytest.warns(ts.errors.SkippedLayersWarning, match=r"criterion_post_states \(a number"),
    ):
        assert called(images(9, 3)).ndim == 0
    assert (run["fc_post_states"].neurons, run["fc_post_states"].state_count) == (4, 9)
    with pytest.raises(ts.errors.NothingCaptured, match="exclude="):
        run["criterion_post_states"].entropy()


def test_a_0d_output_is_a_value_error_for_a_hook_attached_by_hand():
    layer, hook = Returns(torch.sum), ts.StateCaptureHook("sum")
    hook.attach(layer)
    with pytest.raises(ValueError, match="0-d"):
        layer(images(2, 3))
    hook.detach()
    assert hook.neurons is None


@pytest.mark.parametrize("backend", [None, "eager"])
def test_a_pass_without_any_neurons_is_left_out(backend):
    """As of the edges of a graph that has none: (2, 0)."""
    torch._dynamo.reset()
    model = nn.Sequential(nn.Linear(3, 4), Returns(lambda x: x[:, : int(len(x) > 2)]))
    called = model if backend is None else torch.compile(model, backend=backend)
    with ts.capture(model, "1") as run:
        with pytest.warns(ts.errors.GuessedAxisWarning, match="1_post_states.*0 neurons"):
            called(images(2, 3))
        called(images(9, 3))
    assert (run["1_post_states"].neurons, run["1_post_states"].state_count) == (1, 9)


def test_the_loss_of_a_published_output_is_not_captured():
    outputs = pytest.importorskip("transformers.modeling_outputs")
    model = nn.Sequential(
        Returns(lambda x: outputs.SequenceClassifierOutput(loss=x.sum(), logits=x))
    )
    with ts.capture(model, "0") as run:
        assert list(model(images(9, 3))) == ["loss", "logits"]
    np.testing.assert_array_equal(run["0_post_states"].raw_states, expected_rows(images(9, 3)))


@pytest.mark.parametrize("output", [lambda x: (x.sum(), x), lambda x: {"loss": x.sum(), "y": x}])
def test_losses_in_compiled_models(output):
    model = nn.Sequential(nn.Linear(3, 4), Returns(output))
    with ts.capture(model, "1") as run:
        torch.compile(model, backend="eager")(images(9, 3))
    assert (run["1_post_states"].neurons, run["1_post_states"].state_count) == (4, 9)


def test_complex_outputs_are_refused():
    model = nn.Sequential(Returns(lambda x: torch.complex(x, x)))
    with ts.capture(model, "0") as run, pytest.raises(TypeError, match=r"^0_post.*view_as_real"):
        model(images(2, 3))
    assert run["0_post_states"].neurons is None


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_integer_and_bool_outputs(dtype):
    x = images(20, 3).mul(3).abs().to(dtype)
    model = nn.Sequential(nn.Identity())
    with ts.capture(model, "0") as run:
        model(x)
    np.testing.assert_array_equal(run["0_post_states"].raw_states, expected_rows(x))


def test_lazily_negated_outputs():
    x = images(9, 5)
    model = nn.Sequential(Returns(lambda x: torch.complex(x, x).conj().imag))
    with ts.capture(model, "0") as run:
        assert model(x).is_neg()
    np.testing.assert_array_equal(run["0_post_states"].raw_states, expected_rows(-x))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_nested_tensors_are_refused_with_the_way_out():
    def encoder(**options: bool) -> nn.Module:
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        return nn.TransformerEncoder(layer, 1, **options).eval()

    padding = torch.tensor([[False, False, False], [False, True, True]])
    model = encoder()  # a padded batch becomes a nested tensor here, in eval mode
    with (
        torch.no_grad(),
        ts.capture(model, "layers.0.linear1"),
        pytest.raises(TypeError, match=r"linear1_post_states: nested.*enable_nested_tensor"),
    ):
        model(images(2, 3, 4), src_key_padding_mask=padding)
    model = encoder(enable_nested_tensor=False)
    with torch.no_grad(), ts.capture(model, "layers.0.linear1") as run:
        model(images(2, 3, 4), src_key_padding_mask=padding)
    assert run["layers.0.linear1_post_states"].state_count == 6


class Wrapper(torch.Tensor):
    """Holds another tensor, as DTensor does."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inner = [arg.inner if isinstance(arg, cls) else arg for arg in args]
        return cls(func(*inner, **(kwargs or {})))


NOT_DENSE: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "coordinates": (
        torch.Tensor.to_sparse,
        r"a tensor of layout torch\.sparse_coo cannot.* \.to_dense\(\).* exclude=",
    ),
    "compressed rows": (
        torch.Tensor.to_sparse_csr,
        r"a tensor of layout torch\.sparse_csr cannot be .* \.to_dense\(\)",
    ),
    "mkldnn": (
        torch.Tensor.to_mkldnn,
        r"a tensor of layout torch\._mkldnn cannot be .*\.to_dense\(\)",
    ),
    "wrapper": (Wrapper, "a Wrapper cannot be captured.*return a plain torch.Tensor .*exclude="),
    "masked": (
        lambda x: torch.masked.masked_tensor(x, x > 0),
        r"a MaskedTensor cannot be captured.*return \.to_tensor\(0\) from the layer",
    ),
    "jagged": (
        lambda x: torch.nested.nested_tensor([x, x[:2]], layout=torch.jagged),
        "nested tensors cannot be captured",
    ),
}


@pytest.mark.filterwarnings("ignore:.*(prototype|beta state):UserWarning")
@pytest.mark.parametrize("kind", NOT_DENSE)
def test_tensors_that_are_not_dense_are_refused_with_the_way_out(kind):
    function, message = NOT_DENSE[kind]
    model = nn.Sequential(Returns(function))
    with ts.capture(model, "0") as run:
        with pytest.raises(TypeError, match=f"^0_post_states: {message}"):
            model(images(6, 4))
        assert run["0_post_states"].neurons is None
        model[0].function = torch.neg
        model(images(6, 4))
    assert run["0_post_states"].state_count == 6


class Named(torch.Tensor):
    """A tensor with a class and with memory of its own, as those of torchvision's transforms."""


def test_subclasses_with_memory_are_captured():
    model = nn.Sequential(Returns(lambda x: x.as_subclass(Named)))
    with ts.capture(model, "0") as run:
        assert type(model(images(6, 4))) is Named
        model(images(0, 4))
    np.testing.assert_array_equal(run["0_post_states"].raw_states, expected_rows(images(6, 4)))


class Keywords(nn.Module):
    """Calls its layer with keyword arguments only."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(input=x)


def test_before_a_layer_that_is_called_with_keywords_only():
    model = Keywords()
    with ts.capture(model, "layer", method="both") as run:
        output = model(images(9, 3))
    before, after = run.efficiency_layers
    np.testing.assert_array_equal(before.raw_states, expected_rows(images(9, 3)))
    np.testing.assert_array_equal(after.raw_states, expected_rows(output))


def test_before_a_layer_of_several_arguments():
    model = nn.Sequential()
    model.layer = nn.Bilinear(3, 4, 2)
    with ts.capture(model, "layer", method="before") as run:
        model.layer(images(9, 3), images(9, 4, seed=1))
    np.testing.assert_array_equal(run["layer_pre_states"].raw_states, expected_rows(images(9, 3)))


@pytest.mark.parametrize("merge_calls", [False, True])
def test_each_call_of_a_shared_module_is_captured(merge_calls):
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.Tanh(), shared)
    with ts.capture(model, "Linear", merge_calls=merge_calls) as run:
        for _ in range(2):
            model(images(9, 3))
    first = shared(images(9, 3))
    rows = [expected_rows(first), expected_rows(shared(first.tanh()))]
    if merge_calls:
        assert list(run) == ["0_post_states"]
        np.testing.assert_array_equal(run["0_post_states"].raw_states, np.concatenate(rows * 2))
        assert run["0_post_states"].instance_count == 36
    else:
        assert list(run) == ["0_post_states", "0:2_post_states"]
        for name, expected in zip(run, rows, strict=True):
            np.testing.assert_array_equal(run[name].raw_states, np.concatenate([expected] * 2))
        assert run.instance_count == 18


@pytest.mark.parametrize("kind", [list, dict])
def test_an_output_that_holds_itself(kind):
    class Odd(nn.Module):
        def forward(self, x):
            odd = [] if kind is list else {}
            if kind is list:
                odd += [odd, (odd, odd)] * 40 + self.rest
            else:
                odd.update(self=odd, again=[odd, odd], rest=self.rest)
            return odd

    model, hook = Odd(), ts.StateCaptureHook("odd")
    model.register_forward_hook(hook)
    model.rest = []
    with pytest.raises(TypeError, match="no tensor in what Odd passes"):
        model(images(4, 2))
    model.rest = [images(4, 2)]
    model(images(4, 2))
    assert hook.state_count == 4


class Padding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor, first: bool = True) -> torch.Tensor:
        if first:
            return self.layer(x.to_padded_tensor(0.0))
        return nn.functional.relu(self.layer(x).to_padded_tensor(0.0))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_a_model_that_is_given_a_nested_tensor(layout):
    model = Padding()
    x = torch.nested.nested_tensor([images(3, 4), images(1, 4)], layout=layout)
    with torch.no_grad(), ts.capture(model, "layer") as run, run.labels(range(2)):
        model(x)
        model(x=x)
    np.testing.assert_array_equal(run["layer"].raw_states, 2 * [*expected_rows(model(x))])
    with pytest.raises(ts.errors.InputsUnknown):
        run["layer"].counts_by()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("grad", [False, True])
def test_nested_tensors_in_compiled_models(backend, grad):
    model = Padding()
    x = torch.nested.nested_tensor([images(3, 4), images(1, 4)], layout=torch.jagged)
    call = torch.compile(model, backend=backend)
    with torch.set_grad_enabled(grad):
        with ts.capture(model, "layer") as run, run.labels(range(2)):
            call(x)
        np.testing.assert_array_equal(run["layer"].raw_states, expected_rows(model(x).detach()))
        with (
            ts.capture(model, "layer"),
            pytest.raises(TypeError, match="layer_post_states: nested"),
        ):
            call(x, first=False)
        with pytest.warns(ts.errors.SkippedLayersWarning, match="nested"), ts.capture(model, "*"):
            call(x, first=False)
