"""What is looked up for a batch that is like an earlier one, and what makes it wrong for another.

Each test passes batches that are alike first, so that there is a plan for them.
"""

import copy
from contextlib import nullcontext

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.pytorch.axis_flow import TracedAxes
from tensorstate_gpu.bridges.pytorch.axis_flow.across_graphs import as_text
from tensorstate_gpu.bridges.pytorch.axis_flow.factors import batch, neuron, position
from tensorstate_gpu.bridges.pytorch.batch_plan import _MOST_KINDS, kind_of
from tensorstate_gpu.cuda import device
from tests.cuda.cases.streams import assert_counts, packed
from tests.cuda.simulated import torch_cuda
from tests.cuda.simulated.kernels import Loading
from tests.cuda.simulated.memory import TORCH
from tests.cuda.simulated.scheduler import GPU, Device
from tests.support.planned_batches import note_unplanned

torch = pytest.importorskip("torch")
from torch.nn.utils.rnn import PackedSequence  # noqa: E402 (after the line that skips)

NEURONS = 64


def numbers(seed=0, rows=60):
    return torch.randn(rows, NEURONS, generator=torch.Generator().manual_seed(seed))


class Layer:
    """A layer whose output is captured, the rows that it passed, and how often it was planned."""

    def __init__(self, on_cuda, keep="states", **options):
        self.on_cuda, self.rows = on_cuda, []
        self.module = torch.nn.Identity()
        self.hook = ts.StateCaptureHook("layer", keep=keep, **{"neuron_axis": 1} | options)
        self.hook.attach(self.module)

    def __call__(self, x, threshold=0):
        with Device(x.get_device()):
            self.module(x)
            on_host = x.cpu().resolve_neg()
        self.rows.append(packed(on_host - threshold).reshape(-1, NEURONS // 8))

    def plan(self):
        for seed in range(3):
            self(self.on_cuda(numbers(seed)))

    def check(self):
        rows = np.concatenate(self.rows)
        assert_counts(self.hook.histogram(), rows)
        if self.hook.keep == "states":
            np.testing.assert_array_equal(self.hook.raw_states, rows)


@pytest.fixture
def looked_at(monkeypatch):
    """The shapes of the batches that were not planned."""
    return note_unplanned(monkeypatch)


@pytest.fixture(params=["states", "counts"])
def layer(request, on_cuda, looked_at):
    layer = Layer(on_cuda, request.param)
    layer.plan()
    assert len(looked_at) == 1
    return layer


SHIFTED = slice(5, 5 + 60 * NEURONS)
OTHERS = {
    "shape": lambda on_cuda: on_cuda(numbers(7, 61)),
    "axes": lambda on_cuda: on_cuda(numbers(7)[:, :, None]),
    "strides": lambda on_cuda: on_cuda(numbers(7).T.contiguous()).T,
    "format": lambda on_cuda: on_cuda(numbers(7).double()),
    "format of the same size": lambda on_cuda: on_cuda(numbers(7).mul(3).int()),
    "sign": lambda on_cuda: torch._neg_view(on_cuda(numbers(7))),
    "device": lambda on_cuda: on_cuda(numbers(7), 1),
    "address": lambda on_cuda: on_cuda(numbers(7, 61)).ravel()[SHIFTED].reshape(60, NEURONS),
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_batches(layer, looked_at, what):
    for _ in range(3):  # by turns, and each kind has a plan from its second batch on
        layer(OTHERS[what](layer.on_cuda))
        layer(layer.on_cuda(numbers(8)))
    layer.check()
    extra = {"sign": 3, "address": 0}.get(what, 1)
    assert len(looked_at) == 1 + extra


def test_other_streams(layer, looked_at):
    """Of batches that are written late, and overwritten at once."""
    other = torch.cuda.Stream()
    for seed in range(6):
        with torch.cuda.stream(other) if seed % 2 else nullcontext():
            x = layer.on_cuda(numbers(seed))
            layer.module(x)
            x.fill_(float("nan"))
        layer.rows.append(packed(numbers(seed)))
    layer.check()
    assert len(looked_at) == 1


def test_other_rules(on_cuda, looked_at):
    """Layers of one model that are given the same tensors."""
    each = [0.0, 0.5, -0.25, [i / NEURONS for i in range(NEURONS)]]
    layers = [Layer(on_cuda, threshold=threshold) for threshold in each]
    for seed in range(4):
        x = on_cuda(numbers(seed))
        for layer, threshold in zip(layers, each, strict=True):
            layer(x, torch.tensor(threshold))
    for layer in layers:
        layer.check()
    assert len(looked_at) == 3 + 4  # one threshold for each neuron has to be copied each time


def test_more_kinds_than_have_plans(layer):
    for rows in range(1, 2 * _MOST_KINDS):
        layer(layer.on_cuda(numbers(rows, rows)))
        assert len(layer.hook._plans) <= _MOST_KINDS
    layer.check()


def test_kernels_that_are_loaded_again(layer, looked_at):
    for left in (None, 0, 1, None):
        device._kernels.cache_clear()
        Loading.left = left
        layer(layer.on_cuda(numbers(9)))
        Loading.left = None
    layer.check()
    assert len(looked_at) > 1  # by the host, while no kernel could be loaded


def test_too_little_memory(layer):
    for left in range(4):
        x = layer.on_cuda(numbers(left))
        TORCH.refuse_after(left)
        layer(x)
        TORCH.refuse_after(1 << 40)
        layer(layer.on_cuda(numbers(left + 1)))
    layer.check()


def test_a_graph_that_is_recorded_on_another_device(layer):
    x = layer.on_cuda(numbers(1), 1)
    for _ in range(2):
        layer(x)
    GPU.capturing[1, 0] = []
    try:
        with pytest.raises(RuntimeError, match="cannot be packed, counted or read in a CUDA graph"):
            layer.module(x)
    finally:
        del GPU.capturing[1, 0]
    layer.check()


def test_what_starts_over(layer, looked_at):
    layer.hook.reset_states()
    layer.rows.clear()
    layer.plan()
    layer.check()
    assert len(looked_at) == 2  # the first batch, of which more is noted
    layer.hook.reset_states()
    layer.module(layer.on_cuda(torch.full((60, NEURONS), float("nan"))))
    assert layer.hook.nan_share == 1


def test_copies_have_no_plans(layer):
    copied = copy.deepcopy(layer.hook)
    assert copied._plans is None
    assert_counts(copied.histogram(), np.concatenate(layer.rows))


def test_plans_keep_no_memory(layer):
    GPU.finish_all()
    layer.check()
    used = TORCH.used
    layer(layer.on_cuda(numbers(3)))
    layer.check()
    assert TORCH.used == used


def test_rows_that_have_arrived_leave_the_device(on_cuda):
    used = TORCH.used
    layer = Layer(on_cuda)
    layer.plan()
    layer.check()
    GPU.finish_all()
    assert TORCH.used < used + 60 * NEURONS // 8  # less than one batch: the number of NaN


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_what_has_no_plan(on_cuda):
    x = on_cuda(numbers())
    assert kind_of(x, None) is not None
    assert kind_of(x, PackedSequence(x, torch.tensor([60]))) is None
    assert kind_of(torch._neg_view(x), None) is None
    assert kind_of(numbers().to_sparse(), None) is None
    kinds = []
    torch.func.grad(lambda x: (kinds.append(kind_of(x, None)), x.sum())[1])(numbers())
    torch.vmap(lambda x: (kinds.append(kind_of(x, None)), x)[1])(numbers())
    assert kinds == [None, None]
    assert kind_of(torch.quantize_per_tensor(numbers(), 0.1, 0, torch.quint8), None) is None


def test_other_graphs(on_cuda, looked_at):
    """In one the inputs are along the first axis of a tensor, in the other along the second."""
    rows, known = [], ([batch(4), position(4)], [position(4), batch(4)])
    graphs = [as_text(TracedAxes((*axes, neuron(NEURONS)), "", "")) for axes in known]
    with ts.capture(torch.nn.Sequential(torch.nn.Identity()), "0", neuron_axis=2) as run:
        (hook,) = run.values()
        hook.pass_log.counter.here.inputs = 4
        for number in range(6):
            x = on_cuda(numbers(number, 16).reshape(4, 4, NEURONS))
            turned = number % 2
            torch.ops.tensorstate_gpu.capture(x, hook._anchor, hook._clock, graphs[turned])
            by_input = x.cpu().transpose(0, 1) if turned else x.cpu()
            rows.append(packed(by_input.reshape(16, NEURONS)))
    np.testing.assert_array_equal(hook.raw_states, np.concatenate(rows))
    assert len(looked_at) == 6


class Grouped(torch.nn.Module):
    """Several positions of each input, which the layer sees as one axis."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Identity()

    def forward(self, x):
        return self.layer(x.flatten(0, 1))


def test_other_inputs(on_cuda, looked_at):
    """The same tensor may be that of two inputs with three positions, or of three with two."""
    model, rows = Grouped(), []
    with ts.capture(model, attach_to="layer", neuron_axis=1) as run:
        for inputs in (2, 2, 2, 3, 2, 3):
            x = on_cuda(numbers(len(rows), 6).reshape(inputs, 6 // inputs, NEURONS))
            model(x)
            rows.append(packed(x.cpu().reshape(6, NEURONS)))
    rows = np.concatenate(rows)
    assert_counts(run[0].histogram(), rows)
    assert run[0].instance_count == 14
    assert_counts(run[0].histogram(slice(6, 9)), rows[18:24])  # three inputs, with two rows each
    assert_counts(run[0].histogram([9]), rows[24:27])


def test_a_mask(on_cuda):
    model, rows = torch.nn.Sequential(torch.nn.Identity()), []
    with ts.capture(model, attach_to="0", neuron_axis=2) as run:
        for number in range(6):
            x = on_cuda(numbers(number, 12).reshape(4, 3, NEURONS))
            mask = torch.arange(12).reshape(4, 3) % (2 + number) > 0
            with run.labels(mask=mask) if number > 2 else nullcontext():
                model(x)
            kept = mask if number > 2 else torch.ones(4, 3, dtype=torch.bool)
            rows.append(packed(x.cpu()[kept]))
    assert_counts(run[0].histogram(), np.concatenate(rows))


def test_an_address_that_kernels_cannot_read(layer):
    buffer = bytearray(4 * 60 * NEURONS + 1)
    x = torch_cuda._on_cuda(torch.frombuffer(buffer, dtype=torch.float32, offset=1), 0)
    with pytest.raises(ValueError, match="must begin at a multiple of 4 bytes on a GPU"):
        layer.module(x.reshape(60, NEURONS))
    layer.check()
