"""Quantised activations: their integers are compared, exactly."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.bridges.pytorch.test_outputs import Returns
from tests.support.torch_models import images

# torch announces that all of this moves to torchao.
pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore:Please use quant_min:UserWarning"),
]
DTYPES = [torch.quint8, torch.qint8, torch.qint32]


def quantized(x, dtype, zero_point=3, scale=0.1):
    return torch.quantize_per_tensor(x, scale, zero_point, dtype)


def captured(function, x, **options):
    model = nn.Sequential(Returns(function))
    with ts.capture(model, "0", **options) as run:
        model(x)
    (point,) = run.efficiency_layers
    return point


def packed(fires, axis=-1):
    return ts.compress_states(np.asarray(fires), neuron_axis=axis)


def exact(q, scale, zero_point, threshold):
    """What fires, in rational numbers."""
    numbers = [(Fraction(int(each)) - zero_point) * Fraction(scale) for each in q.flatten()]
    fires = [threshold < math.inf and number > threshold for number in numbers]
    return np.array(fires).reshape(q.shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("zero_point", [0, 3, 100])
def test_a_neuron_fires_above_the_zero_point(dtype, zero_point):
    x = images(50, 11)
    point = captured(lambda x: quantized(x, dtype, zero_point), x)
    q = quantized(x, dtype, zero_point)
    np.testing.assert_array_equal(point.raw_states, packed(q.int_repr() > q.q_zero_point()))
    np.testing.assert_array_equal(point.raw_states, packed(q.dequantize() > 0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threshold", [0.1, 0.30000000000000004, 0.3, -0.2, 1e300, math.inf, -1000])
def test_thresholds_are_real_numbers(dtype, threshold):
    # 0.1 and 0.3 are no multiples of the scale 0.1 exactly; dequantised numbers are rounded.
    q = quantized(torch.linspace(-1, 1, 20).view(4, 5), dtype)
    point = captured(lambda x: quantized(x, dtype), q.dequantize(), threshold=threshold)
    expected = packed(exact(q.int_repr(), 0.1, 3, threshold))
    np.testing.assert_array_equal(point.raw_states, expected)


def test_one_threshold_for_each_neuron():
    x, thresholds = images(30, 4), [0.5, -0.3, 0.0, math.inf]
    point = captured(lambda x: quantized(x, torch.qint8), x, threshold=thresholds)
    q = quantized(x, torch.qint8).int_repr()
    columns = [exact(q[:, k], 0.1, 3, t) for k, t in enumerate(thresholds)]
    np.testing.assert_array_equal(point.raw_states, packed(np.stack(columns, 1)))


SCALES, ZERO_POINTS = [0.1, 0.02, 3.0, 1e-3], [0, 5, -7, 100]


def by_channel(x, axis=1):
    return torch.quantize_per_channel(
        x, torch.tensor(SCALES, dtype=torch.float64), torch.tensor(ZERO_POINTS), axis, torch.qint8
    )


@pytest.mark.parametrize("threshold", [0.0, 0.1, [0.5, -0.3, 0.0, math.inf]])
@pytest.mark.parametrize("transposed", [False, True])
def test_per_channel(threshold, transposed):
    x = images(30, 4, 3)
    q = by_channel(x).int_repr()
    thresholds = threshold if isinstance(threshold, list) else [threshold] * 4
    channels = zip(SCALES, ZERO_POINTS, thresholds, strict=True)
    expected = np.stack([exact(q[:, k], *each) for k, each in enumerate(channels)], 1)
    axis = 2 if transposed else 1
    if transposed and isinstance(threshold, list):
        with pytest.raises(ValueError, match="per channel along another axis"):
            captured(by_channel, x, neuron_axis=2, threshold=threshold)
        return
    point = captured(by_channel, x, neuron_axis=axis, threshold=threshold)
    np.testing.assert_array_equal(point.raw_states, packed(expected, axis))


def test_firing_functions_get_real_numbers():
    x = images(30, 4)
    point = captured(lambda x: quantized(x, torch.quint8), x, firing=lambda x: abs(x) > 0.15)
    expected = packed(quantized(x, torch.quint8).dequantize().abs() > 0.15)
    np.testing.assert_array_equal(point.raw_states, expected)


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (lambda x: quantized(x, torch.quint4x2), {}, "quantised tensor of .*quint4x2; accepted"),
        (lambda x: quantized(x, torch.qint8, scale=0.0), {}, "scale .* greater than 0, got 0.0"),
        (by_channel, {"threshold": [0.0, 1.0]}, r"one per neuron \(4\), got 2"),
        (lambda x: quantized(x, torch.qint8), {"threshold": [0.0]}, r"one per neuron \(4\), got 1"),
    ],
)
def test_errors(function, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        captured(function, images(6, 4), **options)


def test_a_network_that_is_quantised_statically():
    engine = torch.ao.quantization
    model = nn.Sequential(
        *(engine.QuantStub(), nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Conv2d(3, 4, 2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(64, 4), engine.DeQuantStub()),
    ).eval()
    model.qconfig = engine.get_default_qconfig(torch.backends.quantized.engine)
    observed = engine.prepare(model)
    observed(images(10, 1, 6, 6))
    network, x = engine.convert(observed), images(10, 1, 6, 6)
    seen = {}
    for name, layer in network.named_children():
        layer.register_forward_hook(lambda _, args, out, name=name: seen.update({name: out}))
    with ts.capture(network, ["Conv2d", "Linear", "ReLU"]) as run:
        output = network(x)
    assert torch.equal(output, network(x))
    origins = {name: point.axis_origin for name, point in run.items()}
    assert list(origins.values()) == ["layer", "flow", "layer", "flow", "layer"]
    for name, point in run.items():
        out = seen[name.removesuffix("_post_states")].dequantize()
        assert point.axis == 1
        expected = ts.compress_states(out.contiguous().numpy(), neuron_axis=1)
        np.testing.assert_array_equal(point.raw_states, expected)


def _packed_conv(channels, *, inputs=4):
    weight = torch.quantize_per_tensor(images(channels, inputs, 1, 1), 0.1, 0, torch.qint8)
    return torch.ops.quantized.conv2d_prepack(weight, None, [1, 1], [0, 0], [1, 1], 1)


def _packed_linear(features):
    weight = torch.quantize_per_tensor(images(features, 4), 0.1, 0, torch.qint8)
    return torch.ops.quantized.linear_prepack(weight, None)


def _conv(x):
    return torch.ops.quantized.conv2d_relu(x, _packed_conv(6), 0.1, 3)


@pytest.mark.parametrize(
    ("function", "axis"),
    [
        (_conv, 1),
        (lambda x: torch.ops.quantized.add_relu(_conv(x), _conv(x), 0.1, 3), 1),
        (lambda x: torch.ops.quantized.mul_scalar(_conv(x), 2.0), 1),
        (lambda x: torch.ops.quantized.cat([_conv(x), _conv(x)], 1, 0.1, 3), 1),
        (lambda x: torch.ops.quantized.leaky_relu(_conv(x).mT, 0.1, False, 0.1, 3), 1),
        (lambda x: torch.ops.quantized.linear(x.mT, _packed_linear(6), 0.1, 3), 3),
        (lambda x: torch.ops.quantized.linear_dynamic(x.dequantize().mT, _packed_linear(6)), 3),
    ],
)
def test_quantised_operators_are_followed(function, axis):
    q = quantized(images(2, 4, 4, 4), torch.quint8)
    model = nn.Sequential(Returns(lambda x: function(q)), nn.Identity())
    with ts.capture(model, "1") as run, run.labels([0, 1]):
        model(q)
    point = run["1_post_states"]
    assert (point.axis, point.axis_origin) == (axis, "flow")
    assert list(point.counts_by()) == [0, 1]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_with_quantized_weights(kind, batch_first):
    plain = nn.ModuleDict({"rnn": kind(4, 6, batch_first=batch_first), "act": nn.ReLU()})
    model = torch.ao.quantization.quantize_dynamic(plain, {kind}, dtype=torch.qint8)
    model.forward = lambda x: model["act"](model["rnn"](x)[0])
    shape = (3, 7, 4) if batch_first else (7, 3, 4)
    with ts.capture(model, ["rnn", "act"], batch_axis=1 - batch_first) as run:
        run.labels(range(3))
        output = model(images(*shape))
    assert [(p.axis, p.axis_origin) for p in run.values()] == [(2, "layer"), (2, "flow")]
    for label in range(3):
        own = output[label] if batch_first else output[:, label]
        assert run["act"].counts_by()[label] == ts.count_states(packed(own > 0), neurons=6)


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.rnn = nn.EmbeddingBag(9, 8, mode="sum"), nn.LSTM(8, 4, batch_first=True)
        self.cell, self.head = nn.GRUCell(4, 4), nn.Sequential(nn.Linear(4, 3), nn.ReLU())

    def forward(self, x):
        return self.head(self.cell(self.rnn(self.words(x)[:, None])[0][:, 0]))


def test_quantized_layers_are_captured_by_default():
    model = Words().eval()
    with ts.capture(model) as plain:
        model(torch.arange(8).reshape(4, 2))
    kinds = {nn.Linear, nn.LSTM, nn.GRUCell}
    dynamic = torch.ao.quantization.quantize_dynamic(model, kinds, dtype=torch.qint8)
    dynamic.words.qconfig = torch.ao.quantization.float_qparams_weight_only_qconfig
    dynamic.words = torch.ao.nn.quantized.EmbeddingBag.from_float(dynamic.words)
    with ts.capture(dynamic) as run:
        dynamic(torch.arange(8).reshape(4, 2))
    for one, other in zip(plain.efficiency_layers, run.efficiency_layers, strict=True):
        facts = (one.name, one.state_count, one.neurons, one.axis, one.instance_count)
        assert facts == (other.name, other.state_count, other.neurons, other.axis, 4)
