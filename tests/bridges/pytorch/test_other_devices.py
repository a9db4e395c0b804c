"""Devices without a backend: the same bits by torch's own operations, and errors when attaching."""

import itertools
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu import testing
from tensorstate_gpu._arrays.elements import ELEMENT_TYPES
from tensorstate_gpu.bridges.pytorch import other_devices, tensor_point
from tensorstate_gpu.bridges.pytorch.other_devices import pack_by_torch
from tests.support.torch_models import hooks_of, images

DTYPES = [name for name in ELEMENT_TYPES if hasattr(torch, name)]
THRESHOLDS = [0.0, -0.0, 1.0, -1.0, 0.3, 1e-310, 300, float("inf"), float("-inf")]


def numbers(name, *shape):
    """Every kind of bit pattern, NaN and subnormals among them, and the same bits as NumPy's."""
    size = ELEMENT_TYPES[name].size
    every = np.random.default_rng(0).integers(0, 256, (*shape, size), np.uint8)
    bits = every.view(f"u{size}")[..., 0]
    if name == "bool":
        bits %= 2
    else:
        special = testing.special_bits(name)[: bits.size]
        bits.reshape(-1)[: len(special)] = special
    return torch.from_numpy(bits.view(f"i{size}")).view(getattr(torch, name)), bits


@pytest.mark.parametrize("name", DTYPES)
def test_the_bits_are_those_of_the_kernels(name):
    tensor, bits = numbers(name, 6, 11, 5)
    thresholds = [t for t in THRESHOLDS if t >= 0 or "fnuz" not in name]
    for threshold, axis in itertools.product(thresholds, (0, 1, -1)):
        packed, neurons = pack_by_torch(tensor, axis, threshold)
        assert neurons == tensor.shape[axis]
        expected = testing.compress(bits, axis, threshold, element=name)
        np.testing.assert_array_equal(packed, expected, err_msg=f"{threshold}, axis {axis}")


@pytest.mark.parametrize("neurons", [1, 7, 8, 9, 16, 20, 129])
def test_every_width(neurons):
    x = images(5, neurons)
    packed, _ = pack_by_torch(x, 1, 0.0)
    np.testing.assert_array_equal(packed, ts.compress_states(x.numpy()))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.permute(2, 0, 3, 1),
        lambda x: x[::2, :, 1:, ::3],
        lambda x: x.flip(3),
        lambda x: x[:, :1].expand(-1, 9, -1, -1),
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x[:0],
        lambda x: x.requires_grad_(),
    ],
)
def test_every_layout(view):
    x = view(images(4, 6, 5, 7))
    for axis in filter(x.shape.__getitem__, range(4)):
        packed, _ = pack_by_torch(x, axis, 0.25)
        expected = ts.compress_states(x.detach().numpy(), neuron_axis=axis, threshold=0.25)
        np.testing.assert_array_equal(packed, expected)


@pytest.mark.parametrize("name", ["float32", "float16", "uint8", "int64"])
def test_one_threshold_for_each_neuron(name):
    tensor, bits = numbers(name, 6, 11, 5)
    thresholds = [3, -0.5, 1e-310, float("inf"), -7, 0, 0.1, 250, 1e30, -1e30, 1]
    packed, _ = pack_by_torch(tensor, 1, thresholds)
    expected = testing.compress(bits, 1, thresholds, element=name)
    np.testing.assert_array_equal(packed, expected)


@pytest.mark.parametrize(
    ("tensor", "axis", "threshold", "message"),
    [
        (torch.ones(2, 3, dtype=torch.complex64), 1, 0.0, "dtype torch.complex64; accepted are"),
        (torch.ones(2, 3), 2, 0.0, r"neuron_axis must be in \[-2, 2\)"),
        (torch.ones(3), 0, 0.0, "at least 2 axes"),
        (torch.ones(2, 3), 1, [0.0, 1.0], r"one per neuron \(3\)"),
    ],
)
def test_errors_are_those_of_packing(tensor, axis, threshold, message):
    with pytest.raises((TypeError, ValueError), match=message):
        pack_by_torch(tensor, axis, threshold)


@pytest.fixture
def no_backend(monkeypatch):
    """As if there were no backend for the CPU."""
    monkeypatch.setattr(other_devices, "_WITH_BACKEND", set())
    monkeypatch.setattr(tensor_point, "has_backend", lambda tensor: False)
    monkeypatch.setattr(tensor_point, "plain_torch_tensor", lambda tensor: None)
    other_devices._problem_of.cache_clear()
    yield
    other_devices._problem_of.cache_clear()


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_capture_of_a_model_on_such_a_device(monkeypatch, no_backend, keep):
    model = nn.Sequential(nn.Conv2d(2, 11, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    model(images(4, 2, 7, 6))
    expected = ts.compress_states(model[0](images(4, 2, 7, 6)), neuron_axis=1)

    def unexpected(*_):
        raise AssertionError("a tensor was packed by a backend")

    with ts.capture(model, ["Conv2d", "Linear"], keep=keep) as run, monkeypatch.context() as patch:
        patch.setattr(tensor_point, "borrow", unexpected)
        model(images(4, 2, 7, 6))
    point = run["0_post_states"]
    assert point.histogram() == ts.count_states(expected.numpy(), 11)
    assert (point.states_per_instance(), run.instance_count) == (20, 4)


def test_firing_functions_are_refused_when_attaching(no_backend):
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    message = "firing= is for the cpu and cuda, the model is on cpu"
    with (
        pytest.raises(ts.errors.NotCapturable, match=message),
        ts.capture(model, "ReLU", firing=lambda x: x > 1),
    ):
        raise AssertionError("the block was entered")
    with pytest.raises(ts.errors.NotCapturable, match=message):
        ts.StateCaptureHook("linear", firing=lambda x: x > 1).attach(model[0])
    assert hooks_of(model) == []


@pytest.mark.parametrize("fault", ["error", "other bits"])
def test_a_device_that_cannot_pack_is_refused_when_attaching(no_backend, monkeypatch, fault):
    def faulty(bits, test):
        if fault == "error":
            raise NotImplementedError("The operator 'aten::bitwise_xor' is not implemented")
        faulty.calls += 1
        return bits > 0 if faulty.calls % 2 else bits < 0

    faulty.calls = 0
    monkeypatch.setattr(other_devices, "_fires", faulty)
    model = nn.Sequential(nn.Linear(3, 4))
    expected = "bitwise_xor" if fault == "error" else "other bits"
    with (
        pytest.raises(ts.errors.NotCapturable, match=f"float32 on cpu cannot be .*{expected}"),
        ts.capture(model, "Linear"),
    ):
        raise AssertionError("the block was entered")
    assert hooks_of(model) == []


def test_models_on_the_meta_device_are_refused():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    with (
        pytest.raises(ts.errors.NotCapturable, match=r"on the meta device.*to_empty\(\)"),
        ts.capture(model, "Linear"),
    ):
        raise AssertionError("the block was entered")
    model[0]._hf_hook = object()  # as accelerate's: the numbers are elsewhere
    with ts.capture(model, "Linear"):
        pass
    model = nn.Sequential(nn.Linear(3, 4).to("meta"), nn.Linear(4, 4))
    with ts.capture(model, "1"):
        pass


@pytest.mark.long  # compiles for a minute
@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_a_device_of_another_kind_that_torch_does_not_know(tmp_path):
    command = [sys.executable, "-m", "tests.support.on_toy_device", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    # 4 x 2 x 7 rows of the Linear layer, and 4 x 7 x 11 of the two whose neurons are channels.
    assert ran.stdout.endswith("captured 672\n"), ran.stderr
