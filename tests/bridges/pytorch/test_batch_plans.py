"""What is looked up for a batch on the CPU that is like an earlier one.

Each test passes batches that are alike first, so that there is a plan, and looks whether it is
used. Most other tests of PyTorch pass such batches, too; cuda/cases/plans.py has those of a GPU.
"""

import gc
import sys
import threading
import weakref
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import tensorstate_gpu as ts
from tensorstate_gpu._process import num_threads
from tensorstate_gpu.bridges.pytorch.batch_plan import _MOST_KINDS
from tensorstate_gpu.cpu_fallback import threads
from tests.support.planned_batches import note_unplanned
from tests.support.torch_models import ignores_torchscript

NEURONS = 20


def numbers(seed=0, rows=60):
    return torch.randn(rows, NEURONS, generator=torch.Generator().manual_seed(seed))


def packed(x):
    fires = x.detach().resolve_neg().numpy() > 0
    return np.packbits(fires.reshape(-1, NEURONS), axis=-1, bitorder="little")


class Layer:
    """A layer whose output is captured, and the rows that it passed."""

    def __init__(self, **options):
        self.rows, self.module = [], torch.nn.Identity()
        self.hook = ts.StateCaptureHook("layer", **{"neuron_axis": 1} | options)
        self.hook.attach(self.module)

    def __call__(self, x, threshold=0):
        self.module(x)
        self.rows.append(packed(x - threshold))

    def plan(self):
        for seed in range(3):
            self(numbers(seed))

    def check(self):
        rows = np.concatenate(self.rows)
        assert self.hook.histogram() == ts.count_states(rows, neurons=NEURONS)
        if self.hook.keep == "states":
            np.testing.assert_array_equal(self.hook.raw_states, rows)


@pytest.fixture
def looked_at(monkeypatch):
    """The shapes of the batches that were not planned."""
    return note_unplanned(monkeypatch)


@pytest.fixture(params=["states", "counts"])
def layer(request, looked_at):
    layer = Layer(keep=request.param)
    layer.plan()
    assert len(looked_at) == 1
    return layer


def misaligned():
    buffer = torch.zeros(60 * NEURONS * 4 + 1, dtype=torch.uint8)
    x = torch.frombuffer(buffer.numpy(), dtype=torch.float32, offset=1, count=60 * NEURONS)
    return x.copy_(numbers(7).ravel()).reshape(60, NEURONS)


# Batches, and how often one of three is not planned.
OTHERS = {
    "shape": (lambda: numbers(7, 61), 1),
    "axes": (lambda: numbers(7)[:, :, None], 1),
    "strides": (lambda: numbers(7).T.contiguous().T, 1),
    "format": (lambda: numbers(7).double(), 1),
    "format of the same size": (lambda: numbers(7).mul(3).int(), 1),
    "sign": (lambda: torch._neg_view(numbers(7)), 3),
    "parameter": (lambda: torch.nn.Parameter(numbers(7)), 1),
    "address": (lambda: numbers(7, 61).ravel()[5 : 5 + 60 * NEURONS].reshape(60, NEURONS), 0),
    "address that is no multiple of 4": (misaligned, 3),
    "no rows": (lambda: numbers(7, 0), 3),
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_batches(layer, looked_at, what):
    make, not_planned = OTHERS[what]
    for _ in range(3):  # by turns, and each kind has a plan from its second batch on
        layer(make())
        layer(numbers(8))
    layer.check()
    assert len(looked_at) == 1 + not_planned


def test_other_rules(looked_at):
    """Layers that are given the same tensors."""
    each = [0.0, 0.5, -0.25, [i / NEURONS for i in range(NEURONS)]]
    layers = [Layer(threshold=threshold) for threshold in each]
    for seed in range(4):
        for layer, threshold in zip(layers, each, strict=True):
            layer(numbers(seed), torch.tensor(threshold))
    for layer in layers:
        layer.check()
    assert len(looked_at) == 3 + 4  # one threshold for each neuron is looked at each time


def test_more_kinds_than_have_plans(layer):
    for rows in range(1, 2 * _MOST_KINDS):
        layer(numbers(rows, rows))
        assert len(layer.hook._plans) <= _MOST_KINDS
    layer.check()


def test_what_starts_over(layer, looked_at):
    layer.hook.reset_states()
    layer.rows.clear()
    layer.plan()
    layer.check()
    assert len(looked_at) == 2  # the first batch, of which more is noted
    layer.hook.reset_states()
    layer.module(torch.full((60, NEURONS), float("nan")))
    assert layer.hook.nan_share == 1


@ignores_torchscript
def test_passes_that_do_not_count(layer):
    """They pass tensors that are like those before."""
    x = numbers(7)
    torch.jit.trace(layer.module, x, check_trace=False)
    torch.fx.experimental.proxy_tensor.make_fx(layer.module)(x)
    with torch._subclasses.FakeTensorMode() as fake:
        layer.module(fake.from_tensor(x))
    layer.module(x.to("meta"))
    layer.hook.active = False
    layer.module(x)
    layer.hook.active = True
    layer.hook.capture_on = False
    layer.module(x)
    layer.hook.capture_on = True
    layer.check()
    layer(x)
    layer.check()


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_layer_that_activation_checkpointing_repeats(layer, reentrant):
    x = numbers(7).requires_grad_()
    y = checkpoint(lambda x: layer.module(x) * 2, x, use_reentrant=reentrant)
    layer.rows.append(packed(x))
    y.sum().backward()
    layer.check()


def test_inside_torch_func(layer):
    """Its tensors have no memory of their own."""
    torch.func.grad(lambda x: layer.module(x).sum())(numbers(7))

    def written(x):
        x = x.clone()
        x[0].neg_()  # written to the tensor when it is synchronised
        return layer.module(x)

    expected = torch.func.functionalize(written)(numbers(7))
    layer.rows += [packed(numbers(7)), packed(expected)]
    layer.check()


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_large_batches_use_one_thread(keep, monkeypatch, looked_at):
    """As others in a forward pass; here, what is large begins with less than a megabyte."""
    module = sys.modules["tensorstate_gpu.cpu_fallback.packer"]  # has a function of its name
    monkeypatch.setattr(module, "_FEW_BYTES", 1 << 10)
    monkeypatch.setattr(num_threads, "_MIN_BYTES", 1 << 10)
    monkeypatch.setattr(threads, "_executor", None)  # no pool: a second thread would be an error
    ts.set_num_threads(4)
    try:
        layer = Layer(keep=keep)
        layer.plan()
        layer(numbers(9))
        assert len(looked_at) == 1
        monkeypatch.undo()
        layer.check()
    finally:
        ts.set_num_threads(None)


def test_threads(layer, looked_at):
    """Each packs into memory of its own."""
    layer.rows.clear()
    layer.hook.reset_states()
    layer.plan()
    passes = [[numbers(100 * thread + i) for i in range(20)] for thread in range(4)]

    def run(batches):
        for x in batches:
            layer.module(x)

    running = [threading.Thread(target=run, args=(batches,)) for batches in passes]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    layer.rows += [packed(x) for batches in passes for x in batches]
    counts = ts.count_states(np.concatenate(layer.rows), neurons=NEURONS)
    assert layer.hook.histogram() == counts
    assert len(looked_at) == 2


class Grouped(torch.nn.Module):
    """Several positions of each input, which the layer sees as one axis."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Identity()

    def forward(self, x):
        return self.layer(x.flatten(0, 1))


def test_other_inputs(looked_at):
    """The same tensor may be that of two inputs with three positions, or of three with two."""
    model, rows = Grouped(), []
    with ts.capture(model, attach_to="layer", neuron_axis=1) as run:
        for inputs in (2, 2, 2, 3, 2, 3):
            x = numbers(len(rows), 6)
            model(x.reshape(inputs, 6 // inputs, NEURONS))
            rows.append(packed(x))
    rows = np.concatenate(rows)
    assert run[0].histogram() == ts.count_states(rows, neurons=NEURONS)
    assert run[0].instance_count == 14
    chosen = run[0].histogram(slice(6, 9))  # three inputs, with two rows each
    assert chosen == ts.count_states(rows[18:24], neurons=NEURONS)


class Turned(torch.nn.Module):
    """The layer sees as many inputs as neurons, and of inputs (n, 1, n) the neurons first."""

    def __init__(self):
        super().__init__()
        self.fc, self.layer = torch.nn.Linear(NEURONS, NEURONS), torch.nn.Identity()

    def forward(self, x):
        y = self.fc(x)
        return self.layer(y if x.ndim == 2 else y[:, 0].T.contiguous())


@torch.no_grad()
def test_other_axes(looked_at):
    """Tensors that are alike may have their neurons along axes that differ."""
    model, rows = Turned(), []
    with ts.capture(model, attach_to="layer") as run:
        for seed in range(6):
            x = numbers(seed, NEURONS)
            model(x[:, None] if seed % 2 else x)
            rows.append(packed(model.fc(x)))
    np.testing.assert_array_equal(run[0].raw_states, np.concatenate(rows))


def test_masks_and_labels():
    model, rows, labels = torch.nn.Sequential(torch.nn.Identity()), [], []
    with ts.capture(model, attach_to="0", neuron_axis=2) as run:
        for number in range(6):
            x = numbers(number, 12).reshape(4, 3, NEURONS)
            mask = torch.arange(12).reshape(4, 3) % (2 + number) > 0
            given = mask if number > 2 else None
            with run.labels([number] * 4, mask=given):
                model(x)
            kept = packed(x[mask] if number > 2 else x.reshape(12, NEURONS))
            rows.append(kept)
            labels.append(number)
    by_label = run[0].counts_by()
    for number, kept in zip(labels, rows, strict=True):
        assert by_label[number] == ts.count_states(kept, neurons=NEURONS)


class Twice(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Identity()

    def forward(self, x):
        return self.layer(-self.layer(x))


def test_a_later_call_that_is_switched_off():
    model = Twice()
    with ts.capture(model, attach_to="layer", neuron_axis=1) as run:
        for seed in range(6):
            if seed:
                run[1].capture_on = seed % 2 == 0
            model(numbers(seed))
    assert [point.instance_count for point in run.values()] == [6 * 60, 3 * 60]


def test_a_layer_that_is_called_twice(looked_at):
    """Each call has a capture point of its own, with plans of its own."""
    model, given = Twice(), [numbers(seed) for seed in range(4)]
    with ts.capture(model, attach_to="layer", neuron_axis=1) as run:
        for x in given:
            model(x)
    for index, sign in enumerate((1, -1)):
        rows = np.concatenate([packed(sign * x) for x in given])
        np.testing.assert_array_equal(run[index].raw_states, rows)
    assert len(looked_at) == 2


def test_pauses():
    model = torch.nn.Sequential(torch.nn.Identity())
    with ts.capture(model, attach_to="0", neuron_axis=1) as run:
        for number in range(6):
            with run.paused() if number in (2, 4) else nullcontext():
                model(numbers(number))
    rows = np.concatenate([packed(numbers(number)) for number in (0, 1, 3, 5)])
    np.testing.assert_array_equal(run[0].raw_states, rows)


@pytest.mark.parametrize("method", ["deliver", "record"])
def test_methods_of_a_subclass_are_called_for_each_batch(method, looked_at):
    calls = []

    def noted(self, *given, **options):
        calls.append(method)
        getattr(ts.StateCaptureHook, method)(self, *given, **options)

    layer = Layer()
    layer.hook.detach()
    layer.hook = type("Noting", (ts.StateCaptureHook,), {method: noted})("layer", neuron_axis=1)
    layer.hook.attach(layer.module)
    layer(numbers(1))
    layer(numbers(2))
    layer(numbers(3))
    layer.check()
    assert len(calls) == len(looked_at) == 3


def test_numbers_live_as_long_as_a_thread_may_read_them(monkeypatch, looked_at):
    """Where no second thread can be started, the first one is not waited for."""
    modules = [sys.modules[f"tensorstate_gpu.cpu_fallback.{name}"] for name in ("pack", "packer")]
    monkeypatch.setattr(modules[1], "_FEW_BYTES", 1 << 10)
    monkeypatch.setattr(num_threads, "_MIN_BYTES_IN_FORWARD_PASS", 1 << 10)
    layer, tasks, owners = Layer(), [], []
    with monkeypatch.context() as patch:
        patch.setattr(modules[0], "in_parallel", lambda task, *_: tasks.append(task))
        for seed in range(2):
            layer.module(x := numbers(seed))
            owners.append(weakref.ref(x))
        del x
    assert len(looked_at) == 1
    gc.collect()
    assert len(tasks) == 2
    assert None not in [owner() for owner in owners]
