"""torch.compile: a compiled model gives the states of the model, and computes the same."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.samples import thinned
from tests.support.staged_models import network
from tests.support.torch_models import Checkpointed, expected_rows, hooks_of, images

pytestmark = pytest.mark.usefixtures("nothing_compiled_before")

# No C++ compiler is needed for these two; "aot_eager" functionalises as "inductor" does.
BACKENDS = ("eager", "aot_eager")
WAYS = [*itertools.product(["states", "counts"], BACKENDS, [False, True])]
# Each two of these together.
SAMPLE = [("states", "eager", False), ("states", "aot_eager", True)]
SAMPLE += [("counts", "eager", True), ("counts", "aot_eager", False)]


def expected(model: nn.Sequential, batches: list[torch.Tensor]) -> dict[str, ts.StateCounts]:
    """Counts of the convolution and the dense layer, from their outputs in eager mode."""
    plain = copy.deepcopy(model)
    if hasattr(plain, "efficiency_layers"):
        ts.remove_state_layers(plain)
    with torch.no_grad():
        conv = np.concatenate([expected_rows(plain[0](x), 1) for x in batches])
        dense = np.concatenate([expected_rows(plain(x)) for x in batches])
    return {
        "0_post_states": ts.count_states(conv, neurons=9),
        "3_post_states": ts.count_states(dense, neurons=4),
    }


@pytest.mark.parametrize(("keep", "backend", "fullgraph"), thinned(WAYS, SAMPLE))
def test_built_then_compiled(keep, backend, fullgraph):
    model, batches = network(), [images(5, 1, 6, 6, seed=seed) for seed in range(3)]
    want = expected(model, batches)
    ts.build_efficiency_model(model, ["Conv2d", "Linear"], keep=keep)
    compiled = torch.compile(model, backend=backend, fullgraph=fullgraph)
    with torch.no_grad():
        for x in batches:
            output = compiled(x)
    plain = copy.deepcopy(model)
    ts.remove_state_layers(plain)
    torch.testing.assert_close(output, plain(batches[-1]))
    assert {p.name: p.histogram() for p in model.efficiency_layers} == want
    assert [p.axis for p in model.efficiency_layers] == [1, 1]
    assert [p.instance_count for p in model.efficiency_layers] == [15, 15]
    if keep == "states":
        rows = np.concatenate([expected_rows(plain[0](x), 1) for x in batches])
        np.testing.assert_array_equal(model.efficiency_layers[0].raw_states, rows)


@pytest.mark.parametrize(("keep", "backend", "fullgraph"), thinned(WAYS, SAMPLE))
def test_compiled_inside_capture(keep, backend, fullgraph):
    model, batches = network(), [images(5, 1, 6, 6, seed=seed) for seed in range(2)]
    want = expected(model, batches)
    with torch.no_grad(), ts.capture(model, ["Conv2d", "Linear"], keep=keep) as run:
        compiled = torch.compile(model, backend=backend, fullgraph=fullgraph)
        for x in batches:
            compiled(x)
    assert {p.name: p.histogram() for p in run.efficiency_layers} == want
    assert hooks_of(model) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_inside_capture_with_labels(backend):
    model = network()
    with torch.no_grad(), ts.capture(model, "Conv2d", keep="counts") as run:
        compiled = torch.compile(model, backend=backend)
        for seed in range(2):
            run.labels([3, 1, 3])
            compiled(images(3, 1, 6, 6, seed=seed))
    found = run["0_post_states"].counts_by()
    assert {label: counts.total for label, counts in found.items()} == {1: 32, 3: 64}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_compiled_pass_does_not_fail_for_labels_of_the_wrong_length(backend):
    model = network()
    call = torch.compile(model, backend=backend)
    with (
        torch.no_grad(),
        ts.capture(model, "Conv2d") as run,
        run.labels([3, 1]),
        pytest.warns(UserWarning, match="labels are for 2 inputs, and a pass had 3") as told,
    ):
        call(images(3, 1, 6, 6))
    assert {warning.filename for warning in told} == {__file__}
    assert (run["0_post_states"].state_count, run.instance_count) == (48, 3)
    with pytest.raises(ts.errors.LabelsMissing, match="3 of 3 instances"):
        run["0_post_states"].counts_by()


@pytest.mark.parametrize("method", ["before", "both"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_before_layers(backend, method):
    model, x = network(), images(5, 1, 6, 6)
    ts.build_efficiency_model(model, "Linear", method=method)
    with torch.no_grad():
        torch.compile(model, backend=backend, fullgraph=True)(x)
        before = model.efficiency_layers[0]
        assert before.name == "3_pre_states"
        activation = model[0](x).relu().flatten(1)
    np.testing.assert_array_equal(before.raw_states, expected_rows(activation))


def train(model: nn.Module, call: nn.Module) -> list[torch.Tensor]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    found = []
    for seed in range(3):
        loss = call(images(8, 1, 6, 6, seed=seed)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.detach())
    return [*found, *(value.clone() for value in model.state_dict().values())]


@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_training(backend, fullgraph):
    bare = network()
    want = train(bare, bare)
    model = ts.build_efficiency_model(network(), ["Conv2d", "Linear"])
    found = train(model, torch.compile(model, backend=backend, fullgraph=fullgraph))
    for ours, theirs in zip(found, want, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert [point.instance_count for point in model.efficiency_layers] == [24, 24]
    eager = ts.build_efficiency_model(network(), ["Conv2d", "Linear"])
    train(eager, eager)
    for ours, theirs in zip(model.efficiency_layers, eager.efficiency_layers, strict=True):
        assert ours.histogram() == theirs.histogram()


@pytest.mark.parametrize("backend", BACKENDS)
def test_batches_of_other_sizes_and_resets(backend):
    model = ts.build_efficiency_model(network(), "Linear")
    compiled = torch.compile(model, backend=backend)
    with torch.no_grad():
        for rows in (5, 3, 8):
            compiled(images(rows, 1, 6, 6))
        assert model.efficiency_layers[0].state_count == 16
        ts.reset_efficiency_model(model)
        compiled(images(2, 1, 6, 6))
    assert model.efficiency_layers[0].state_count == 2


def test_module_compile_after_attaching():
    model, x = network(), images(5, 1, 6, 6)
    want = expected(model, [x])
    ts.build_efficiency_model(model, ["Conv2d", "Linear"])
    model.compile(backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        model(x)
    assert {p.name: p.histogram() for p in model.efficiency_layers} == want


@pytest.mark.parametrize("backend", BACKENDS)
def test_removing_after_compiling_ends_the_capture(backend):
    model, x = network(), images(5, 1, 6, 6)
    with torch.no_grad(), ts.capture(model, "Linear") as run:
        compiled = torch.compile(model, backend=backend)
        compiled(x)
    with torch.no_grad():
        after = compiled(x)
        torch.testing.assert_close(after, model(x))
    assert run["3_post_states"].state_count == 5


@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_checkpoints_in_a_compiled_model_are_not_counted_twice(backend, fullgraph):
    model = ts.build_efficiency_model(Checkpointed(network()), "inner.3")
    compiled = torch.compile(model, backend=backend, fullgraph=fullgraph)
    for _ in range(2):
        compiled(images(5, 1, 6, 6).requires_grad_()).sum().backward()
    assert model.efficiency_layers[0].state_count == 10


def test_a_hook_by_hand_in_a_compiled_model():
    layer, hook = nn.Linear(3, 2), ts.StateCaptureHook("linear")
    hook.attach(layer)
    torch.compile(layer, backend="aot_eager", fullgraph=True)(images(4, 3))
    assert hook.state_count == 4


@pytest.mark.skipif(not hasattr(torch.Tag, "cudagraph_unsafe"), reason="an older torch")
@pytest.mark.parametrize("name", ["capture", "skip", "begin_pass", "end_pass"])
def test_operators_stay_out_of_cuda_graphs(name):
    """torch.compile splits its CUDA graphs there: a replay calls no Python."""
    operator = getattr(torch.ops.tensorstate_gpu, name).default
    assert torch.Tag.cudagraph_unsafe in operator.tags
