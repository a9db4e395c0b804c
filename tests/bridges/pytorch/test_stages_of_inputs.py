"""What stages know of the inputs of each batch: labels, numbers, axes."""

import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.staged_models import (
    Graph,
    batch,
    network,
    staged,
)
from tests.support.torch_models import Checkpointed, expected_rows, images

pytestmark = pytest.mark.usefixtures("nothing_compiled_before")


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
    for compiled in (False, True):
        model = Checkpointed(network())
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
