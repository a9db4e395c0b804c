"""What a captured batch costs the host: launches, waits, and calls of our Python code.

Of hooks, and of the operators that compiled graphs contain, called as such graphs call them. The
host is what limits a captured forward pass on a GPU.
"""

import gc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.cuda import device, host_copy, small_batches
from tests.cuda.cases.simulated import Layer
from tests.cuda.cases.streams import assert_counts, packed
from tests.cuda.simulated.memory import TORCH
from tests.cuda.simulated.scheduler import GPU
from tests.support.python_calls import calls_of

torch = pytest.importorskip("torch")

ROOT = Path(ts.__file__).parents[1]
OURS = tuple(f"{ROOT / folder}/" for folder in ("tensorstate_gpu", "bridges"))
BATCHES = 8  # as many as are counted together
OPERATORS = torch.ops.tensorstate_gpu
NOT_FOLLOWED = "[null, %22%22, %22%22]"  # what a graph may know of the axes of a tensor: nothing


@pytest.fixture
def launched(monkeypatch):
    """The kernels that were launched."""
    kernels, run = [], device.run

    def noted(launch, *first):
        kernels.append(launch.kernel)
        run(launch, *first)

    monkeypatch.setattr(device, "run", noted)
    return kernels


def calls_of_a_batch(call, before=lambda: None):
    """How many calls of our Python code a batch costs, while the device keeps up.

    ``before``: called when what all batches use is allocated.
    """

    def in_turn():
        for _ in range(BATCHES):
            call()
            GPU.finish_all()

    in_turn()
    gc.collect()  # else what is freed during the calls may be that of earlier ones
    before()
    return sum(file.startswith(OURS) for file, _ in calls_of(in_turn)) / BATCHES


def of_batches(call, launched, *, most, allocations):
    """Check what BATCHES cost while the device keeps up, and return how often each kernel runs.

    ``most``: calls of our Python code for one of them.
    """
    taken = []

    def begin():
        launched.clear()
        GPU.log.clear()
        taken.append(TORCH.allocations)

    assert most - 3 < calls_of_a_batch(call, begin) <= most
    assert GPU.log == []
    assert TORCH.allocations - taken[0] == allocations
    return Counter(launched)


PACKED = {"pack_whole_bytes": BATCHES}
KERNELS = {"states": PACKED, "counts": {**PACKED, "join_batches": 1, "count_rows": 1}}
# The rows of each; and of all together, and room for those that a table refuses.
ALLOCATIONS = {"states": BATCHES, "counts": BATCHES + 2}


@pytest.mark.parametrize(("keep", "most"), [("states", 46), ("counts", 48)])
def test_of_a_hook(on_cuda, launched, keep, most):
    layer, x = Layer(on_cuda, keep), on_cuda(torch.randn(60, 64))
    limits = {"most": most, "allocations": ALLOCATIONS[keep]}
    assert of_batches(lambda: layer.module(x), launched, **limits) == KERNELS[keep]


def test_of_a_large_batch(on_cuda, launched, monkeypatch):
    """It is counted at once."""
    monkeypatch.setattr(small_batches, "_MOST_BYTES", 60 * 8 - 1)
    layer, x = Layer(on_cuda, "counts"), on_cuda(torch.randn(60, 64))
    kernels = of_batches(lambda: layer.module(x), launched, most=56, allocations=2 * BATCHES)
    assert kernels == {**PACKED, "count_rows": BATCHES}


@pytest.mark.parametrize(("keep", "most"), [("states", 55), ("counts", 53)])
def test_of_a_layer_of_a_model(on_cuda, launched, keep, most):
    """What passes of the model cost is not of one layer, so it is that of three layers less two."""
    x, costs = on_cuda(torch.randn(60, 64)), []
    for layers in (2, 3):
        model = torch.nn.Sequential(*(torch.nn.Identity() for _ in range(layers)))
        with ts.capture(model, attach_to="Identity", keep=keep, neuron_axis=1):
            costs.append(calls_of_a_batch(lambda model=model: model(x)))
    assert most - 3 < costs[1] - costs[0] <= most


@pytest.mark.parametrize(("keep", "most"), [("states", 46), ("counts", 48)])
def test_of_the_operator_in_a_compiled_graph(on_cuda, launched, keep, most):
    hook = Layer(on_cuda, keep).hook
    x = on_cuda(torch.randn(60, 64))

    def call():
        OPERATORS.capture(x, hook._anchor, hook._clock, NOT_FOLLOWED)

    limits = {"most": most, "allocations": ALLOCATIONS[keep]}
    assert of_batches(call, launched, **limits) == KERNELS[keep]


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_what_the_operator_captures(on_cuda, keep):
    """Also of tensors that are written late, on another stream, and overwritten at once."""
    hook, other, rows = Layer(on_cuda, keep).hook, torch.cuda.Stream(), []
    for seed in range(6):
        values = torch.randn(60, 100, generator=torch.Generator().manual_seed(seed))
        with torch.cuda.stream(other if seed % 2 else torch.cuda.current_stream()):
            x = on_cuda(values)
            OPERATORS.capture(x, hook._anchor, hook._clock, NOT_FOLLOWED)
            x.fill_(float("nan"))
        rows.append(packed(values))
    OPERATORS.skip(hook._anchor, False)
    assert_counts(hook.histogram(), np.concatenate(rows))
    if keep == "states":
        np.testing.assert_array_equal(hook.raw_states, np.concatenate(rows))


def test_the_model_does_not_wait_for_rows_on_their_way_to_the_host(on_cuda):
    layer, ready = Layer(on_cuda, "states"), []
    layer(0)
    GPU.put(host_copy.copy_stream().key, lambda: None, lambda: ready)
    layer(1)
    torch.cuda.current_stream(0).synchronize()  # an error if that takes a copy
    ready.append(True)
    layer.check()


def test_of_a_stage_in_a_compiled_graph(on_cuda, launched):
    """The host reads nothing of it, and so waits for nothing."""
    module, x = torch.nn.Identity(), on_cuda(torch.randn(60, 64))
    with ts.capture(module, stage_rows=10_000, attach_to="*") as run:
        module(x)
        (point,) = run.values()
        stage = point._stage

        def call():
            OPERATORS.stage(x, stage.rows, stage.status, stage.notes, None, stage.placement)

        kernels = of_batches(call, launched, most=30, allocations=BATCHES)
        assert kernels == dict.fromkeys(["pack_whole_bytes", "append_rows", "note_batch"], BATCHES)
        expected = packed(x.cpu().repeat(1 + 2 * BATCHES, 1))
        assert_counts(point.histogram(), expected)
