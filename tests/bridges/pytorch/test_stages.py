"""Stages: captures at fixed addresses, which CUDA graphs may record. Here on the CPU."""

import copy
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from functorch.compile import make_boxed_func
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch.utils.checkpoint import checkpoint

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.pytorch.hooks import StateCaptureHook
from tensorstate_gpu.bridges.pytorch.staged_hook import StagedHook
from tests.support.samples import thinned
from tests.support.torch_models import expected_rows, images

KEEP = ("states", "counts")
# torch itself, when it imports its compiler
INDUCTOR = pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 9, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(9 * 16, 4)
    )


def batch(seed: int, size: int = 5) -> torch.Tensor:
    return images(size, 1, 6, 6, seed=seed)


def expected(model: nn.Sequential, seeds: range) -> dict[str, ts.StateCounts]:
    """What the layers pass, by the NumPy oracle."""
    plain = copy.deepcopy(model)
    with torch.no_grad():
        conv = np.concatenate([expected_rows(plain[0](batch(seed)), 1) for seed in seeds])
        dense = np.concatenate([expected_rows(plain(batch(seed))) for seed in seeds])
    return {
        "0_post_states": ts.count_states(conv, neurons=9),
        "3_post_states": ts.count_states(dense, neurons=4),
    }


def found(run: ts.Run) -> dict[str, ts.StateCounts]:
    return {name: point.histogram() for name, point in run.items()}


def staged(model: nn.Module, rows: int = 10_000, **options: object) -> ts.Run:
    return ts.capture(model, ["Conv2d", "Linear"], stage_rows=rows, **options)


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
@INDUCTOR
def test_all_batches_are_counted_by_inductor():
    model = network()
    call = torch.compile(model, fullgraph=True)
    with torch.no_grad(), staged(model) as run:
        for seed in range(4):
            call(batch(seed))
    assert found(run) == expected(model, range(4))


class Graph:
    """A compiled model of which only the graph runs, without hooks: as a CUDA graph is replayed."""

    def __init__(self, model: nn.Module) -> None:
        self._parts: list[Callable[..., Any]] = []
        backend = aot_autograd(fw_compiler=self._keep, keep_inference_input_mutations=True)
        self._compiled = torch.compile(model, backend=backend)

    def _keep(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        self._parts.append(graph)
        return make_boxed_func(self._record)

    def _record(self, *inputs: torch.Tensor) -> Any:
        self._inputs = inputs
        return self._parts[-1](*inputs)

    def record(self, x: torch.Tensor) -> None:
        """Run the whole compiled model, and keep its last graph with these inputs."""
        self._x = x
        self._compiled(x)

    def replay(self, x: torch.Tensor) -> None:
        self._x.copy_(x)
        self._parts[-1](*self._inputs)


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


# ---- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_labels_are_a_tensor_that_replays_read(keep):
    model = network()
    graph, labels = Graph(model), torch.zeros(5, dtype=torch.int64)
    with torch.no_grad(), staged(model, keep=keep) as run:
        run.static_labels(labels)
        with run.paused():
            graph.record(batch(0))
            graph.record(batch(0))
        for seed in range(6):
            labels.copy_(torch.arange(5) % 2 + seed % 2)
            graph.replay(batch(seed))
            if seed == 2:
                run.drain()
        by_label = run["0"].counts_by()
    assert {label: counts.total for label, counts in by_label.items()} == {0: 144, 1: 240, 2: 96}
    twos = np.concatenate([expected_rows(model[0](batch(seed)[1::2]), 1) for seed in (1, 3, 5)])
    assert by_label[2] == ts.count_states(twos, neurons=9)


def test_batches_without_labels_are_missing_some():
    model, labels = network(), torch.zeros(5, dtype=torch.int64)
    with torch.no_grad(), staged(model) as run:
        run.static_labels(labels)
        model(batch(0))
        run.static_labels(None)
        model(batch(1))
        with pytest.raises(ts.errors.LabelsMissing):
            run["0"].counts_by()


def test_other_labels_are_refused():
    model = network()
    with staged(model) as run:
        with pytest.raises(ValueError, match=r"use run\.static_labels"):
            run.labels([1, 2, 3])
        with pytest.raises(TypeError, match="tensor of int64, got list"):
            run.static_labels([1, 2])
        with pytest.raises(TypeError, match=r"int64, got torch\.float32"):
            run.static_labels(torch.zeros(3))
        with pytest.raises(ValueError, match=r"1-D, got \(3, 1\)"):
            run.static_labels(torch.zeros(3, 1, dtype=torch.int64))
    with ts.capture(model, "Linear") as run, pytest.raises(ValueError, match="stage_rows="):
        run.static_labels(torch.zeros(3, dtype=torch.int64))


# ---- inputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
def test_inputs_that_share_an_axis_with_others_are_unknown(compiled):
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> Any:
            return self.linear(x.flatten(0, 1))

    model = Tokens()
    call = torch.compile(model, backend="aot_eager") if compiled else model
    with torch.no_grad(), ts.capture(model, "linear", stage_rows=1000) as run:
        for seed in range(2):
            call(images(3, 5, 6, seed=seed))
        assert run["linear"].state_count == 30
        with pytest.raises(ts.errors.InputsUnknown):
            _ = run["linear"].instance_count


def test_inputs_behind_a_graph_break_are_not_guessed():
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> Any:
            torch._dynamo.graph_break()
            return self.linear(x.flatten(0, 1))

    model = Broken()
    call = torch.compile(model, backend="eager")
    with torch.no_grad(), ts.capture(model, "linear", stage_rows=1000) as run:
        call(images(3, 5, 6))
        assert run["linear"].state_count == 15
        with pytest.raises(ts.errors.InputsUnknown):
            _ = run["linear"].instance_count


def test_inputs_along_another_axis():
    model = nn.Linear(6, 4)
    x = images(7, 3, 6)  # seven positions of three inputs
    with torch.no_grad(), ts.capture(model, "Linear", stage_rows=100, batch_axis=1) as run:
        model(x)
    assert run.instance_count == 3
    rows = expected_rows(model(x).transpose(0, 1))
    np.testing.assert_array_equal(run[0].raw_states, rows)


def test_batches_of_other_sizes():
    model = network()
    compiled = torch.compile(model, backend="aot_eager")
    with torch.no_grad(), staged(model) as run:
        for size in (5, 3, 8):
            compiled(batch(0, size))
        assert run.instance_count == 16
        assert run["0"].states_per_instance() == 16


def test_training_in_checkpoints_counts_each_batch_once():
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: torch.Tensor) -> Any:
            return checkpoint(self.inner, x, use_reentrant=False)

    for compiled in (False, True):
        model = Checkpointed()
        call = torch.compile(model, backend="aot_eager") if compiled else model
        with ts.capture(model, "inner.3", stage_rows=1000) as run:
            for seed in range(3):
                call(batch(seed).requires_grad_()).sum().backward()
        assert run["inner.3"].state_count == 15


def test_no_batch_is_lost_between_reading_and_making_room():
    model = nn.Linear(6, 4)
    x = images(3, 6)
    with ts.capture(model, "Linear", keep="counts", stage_rows=10_000) as run:

        def work() -> None:
            with torch.no_grad():
                for _ in range(100):
                    model(x)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            run.drain()
        assert run[0].state_count == 900


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
@INDUCTOR
def test_inductor_splits_cuda_graphs_at_a_capture_but_not_at_a_stage():
    from torch._inductor.utils import is_cudagraph_unsafe_fx_node

    graph = torch.fx.Graph()
    for name, splits in {"stage": False, "capture": True, "begin_pass": True}.items():
        operator = getattr(torch.ops.tensorstate_gpu, name).default
        assert is_cudagraph_unsafe_fx_node(graph.call_function(operator)) == splits, name
