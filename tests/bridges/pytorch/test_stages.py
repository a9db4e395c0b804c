"""Stages: captures at fixed addresses, which CUDA graphs may record. Here on the CPU."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from functorch.compile import make_boxed_func
from torch import nn
from torch._dynamo.backends.common import aot_autograd

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.pytorch.hooks import StateCaptureHook
from tensorstate_gpu.bridges.pytorch.staged_hook import StagedHook
from tests.support.samples import thinned
from tests.support.staged_models import (
    KEEP,
    Graph,
    batch,
    expected,
    found,
    network,
    staged,
)
from tests.support.torch_models import expected_rows, ignores_torchscript, images

pytestmark = pytest.mark.usefixtures("nothing_compiled_before")


@pytest.mark.parametrize(
    ("keep", "backend"),
    thinned(
        [(keep, how) for keep in KEEP for how in ("eager", "aot_eager", "compiled")],
        [("states", "eager"), ("counts", "aot_eager")],
    ),
)
def test_all_batches_are_counted(keep, backend):
    model = network()
    call = {
        "eager": model,
        "aot_eager": torch.compile(model, backend="aot_eager", fullgraph=True),
        "compiled": torch.compile(model, backend="eager"),
    }[backend]
    with torch.no_grad(), staged(model, keep=keep) as run:
        for seed in range(4):
            call(batch(seed))
            if seed == 1:
                assert found(run) == expected(model, range(2))
    assert found(run) == expected(model, range(4))
    assert run.instance_count == 20
    assert run["0"].axis_origin == "layer"
    if keep == "states":
        rows = np.concatenate([expected_rows(model(batch(seed))) for seed in range(4)])
        np.testing.assert_array_equal(run["3"].raw_states, rows)


@pytest.mark.long
@ignores_torchscript
def test_all_batches_are_counted_by_inductor():
    model = network()
    call = torch.compile(model, fullgraph=True)
    with torch.no_grad(), staged(model) as run:
        for seed in range(4):
            call(batch(seed))
    assert found(run) == expected(model, range(4))


def test_a_graph_that_is_replayed_appends_without_our_hooks(monkeypatch):
    model = network()
    graph = Graph(model)
    with torch.no_grad(), staged(model) as run:
        with run.paused():
            graph.record(batch(0))  # creates the stage
            graph.record(batch(0))
        for hook in (StateCaptureHook, StagedHook):
            monkeypatch.setattr(hook, "_capture_value", None)
            monkeypatch.setattr(hook, "receive", None)
        for seed in range(50):
            graph.replay(batch(seed))
            if seed % 7 == 0:
                run.drain()
        assert found(run) == expected(model, range(50))
        assert run.instance_count == 250


def test_sampling_needs_no_new_graph():
    model = network()
    graph = Graph(model)
    with torch.no_grad(), staged(model) as run:
        with run.paused():
            graph.record(batch(0))
            graph.record(batch(0))
        for seed in range(20):
            for point in run.values():
                point.active = seed % 5 == 0
            graph.replay(batch(seed))
        assert found(run) == expected(model, range(0, 20, 5))


# ---- what is lost --------------------------------------------------------------------------------


def test_a_batch_that_does_not_fit_is_not_kept_and_every_reading_says_so():
    model = network()
    with torch.no_grad(), staged(model, rows=100, keep="counts") as run:
        model(batch(0))
        assert run["0"].state_count == 80
        for seed in range(2):
            model(batch(seed))  # 80 rows each; 100 fit
        assert run["3"].state_count == 15
        convolution = run["0"]
        for read in (convolution.entropy, convolution.histogram, run.report):
            with pytest.raises(ts.errors.RowsLost, match=r"0_post_states: 80 rows .* 100 of"):
                read()
        with pytest.raises(ts.errors.RowsLost):
            _ = convolution.state_count
        run.reset()
        model(batch(2))
        assert found(run) == expected(model, range(2, 3))


def test_a_batch_larger_than_the_stage():
    model = network()
    with torch.no_grad(), staged(model, rows=79) as run:
        model(batch(0))
        with pytest.raises(ts.errors.RowsLost, match="0_post_states: 80 rows"):
            run["0"].histogram()
        assert run["3"].state_count == 5


def test_what_is_lost_in_a_pause_is_not_missed():
    model = network()
    with torch.no_grad(), staged(model, rows=100) as run:
        with run.paused():
            for seed in range(3):
                model(batch(seed))
        model(batch(3))
        assert found(run) == expected(model, range(3, 4))


# ---- options, copies -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stage_rows": 0}, "stage_rows must be greater than 0"),
        ({"stage_rows": 10, "when": "train"}, "no when=.* got when='train'"),
        ({"stage_rows": 10, "storage_path": "run.zarr"}, "got storage_path='run.zarr'"),
        ({"stage_rows": 10, "mask": "mask"}, "got mask='mask'"),
        ({"stage_rows": 10, "firing": lambda x: x > 1}, "got firing="),
        ({"stage_rows": 10, "threshold": [0.0, 1.0]}, "takes one int or float as threshold"),
    ],
)
def test_options_that_a_graph_cannot_decide(options, said):
    with pytest.raises(ValueError, match=said):
        ts.capture(network(), "Linear", **options).__enter__()


def test_points_by_hand_have_no_stage():
    for kind in (ts.CapturePoint, ts.StateCaptureHook):
        with pytest.raises(ValueError, match="stage_rows= is for layers of a PyTorch model"):
            kind("layer", stage_rows=10)


def test_a_layer_that_is_called_twice():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> Any:
            return self.act(self.act(x))

    model, x = Twice(), images(3, 6)
    refused = pytest.raises(ts.errors.NotCapturable, match=r"several times in a pass.*merge_calls")
    with ts.capture(model, "act", stage_rows=100), refused:
        model(x)
    with torch.no_grad(), ts.capture(model, "act", stage_rows=100, merge_calls=True) as run:
        model(x)
    both = np.concatenate([expected_rows(model.act(x)), expected_rows(model(x))])
    np.testing.assert_array_equal(run["act"].raw_states, both)


def test_copies_have_what_was_captured():
    model = network()
    with torch.no_grad(), staged(model) as run:
        model(batch(0))
        for copied in (
            copy.copy(run["3"]),
            copy.deepcopy(run["3"]),
            pickle.loads(pickle.dumps(run["3"])),
        ):
            assert copied.histogram() == expected(model, range(1))["3_post_states"]
            model(batch(1))
            assert copied.state_count == 5
            run.reset()
            model(batch(0))


def test_compiled_graphs_use_the_stage_where_it_is():
    """Else each replay of a CUDA graph would copy it, or torch would make no graph of it."""
    fixed: list[set[str]] = []

    def compile(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        metadata = torch._guards.TracingContext.get().fw_metadata
        fixed.append({str(inputs[i].dtype) for i in metadata.static_input_indices})
        return make_boxed_func(graph.forward)

    model = network()
    call = torch.compile(model, backend=aot_autograd(fw_compiler=compile))
    with torch.no_grad(), staged(model):
        call(batch(0))
        call(batch(1))
    assert fixed[-1] >= {"torch.uint8", "torch.int64"}


@pytest.mark.long  # it imports inductor
@ignores_torchscript
def test_inductor_splits_cuda_graphs_at_a_capture_but_not_at_a_stage():
    from torch._inductor.utils import is_cudagraph_unsafe_fx_node

    graph = torch.fx.Graph()
    for name, splits in {"stage": False, "capture": True, "begin_pass": True}.items():
        operator = getattr(torch.ops.tensorstate_gpu, name).default
        assert is_cudagraph_unsafe_fx_node(graph.call_function(operator)) == splits, name


OPEN_AT_THE_END = """
import contextlib, sys
import torch
import tensorstate_gpu as ts

model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU())
stack = contextlib.ExitStack()
stack.enter_context(ts.capture(model, ["Linear"], keep="counts", stage_rows=100))
model(torch.ones(5, 8))
sys.exit(7)
"""


@pytest.mark.long
def test_a_process_that_ends_in_an_open_block():
    """It does not abort, and nothing is read when parts of Python are gone."""
    ended = subprocess.run(
        [sys.executable, "-c", OPEN_AT_THE_END], capture_output=True, text=True, timeout=300
    )
    assert (ended.returncode, ended.stderr) == (7, "")


READ_AT_THE_END = """
import atexit
import torch
import tensorstate_gpu as ts

model = torch.nn.Linear(8, 16)
atexit.register(lambda: print(point.state_count, point.histogram().total))
block = ts.capture(model, ["Linear"], keep="counts", stage_rows=1000)
point = block.__enter__()[0]
for times in (3, 4):
    for _ in range(times):
        model(torch.ones(5, 8))
    if times == 3:
        print(point.state_count)
"""


@pytest.mark.long
def test_what_waits_in_a_stage_is_there_for_functions_that_run_at_exit():
    command = [sys.executable, "-c", READ_AT_THE_END]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.stdout.split() == ["15", "35", "35"], ended.stderr


def test_stages_are_counted_and_left_when_the_process_ends():
    model = network()
    with torch.no_grad(), staged(model) as run:
        model(batch(0))
        run["0"].end_with_program()
        model(batch(1))
        assert run["0"].state_count == 5 * 16  # without a read before; nothing more is staged
        assert run["3"].histogram() == expected(model, range(2))["3_post_states"]


def test_what_cannot_be_counted_when_the_process_ends_is_lost_with_its_number():
    model = network()
    with torch.no_grad(), staged(model) as run:
        model(batch(0))
        dense = run["3"]
        dense.reset_states((1, 7))  # of another number of neurons than the layer has
        model(batch(1))
        dense.end_with_program()
        lost = r"3_post_states: 5 rows that waited .* a batch has 4 neurons, earlier ones 7"
        for read in (dense.entropy, dense.histogram, run.report, lambda: dense.state_count):
            with pytest.raises(ts.errors.RowsLost, match=lost):
                read()
        assert run["0"].state_count == 2 * 5 * 16
