"""Models that torch.compile compiled before they were captured: captures are complete."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

import tensorstate_gpu as ts
from tests.support.samples import thinned
from tests.support.torch_models import hooks_of, images

pytestmark = pytest.mark.usefixtures("nothing_compiled_before")

SIZES = (8, 8, 8, 5)  # one graph serves the first three batches, another one the last


class Block(nn.Sequential):
    """Of a class of its own: torch.compile does not enter ``forward`` of torch's own containers."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 4), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self[1](self[0](x))


class Network(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part in self:
            x = part(x)
        return x


def network(blocks: int = 3) -> Network:
    torch.manual_seed(0)
    return Network(*(Block() for _ in range(blocks)))


def run_epoch(call: Callable[[torch.Tensor], object]) -> None:
    with torch.no_grad():
        for seed, rows in enumerate(SIZES):
            call(images(rows, 4, seed=seed))


def counts_of(run: ts.Run) -> dict[str, ts.StateCounts]:
    assert {point.instance_count for point in run.efficiency_layers} == {sum(SIZES)}
    return {point.name: point.histogram() for point in run.efficiency_layers}


def eager_counts() -> dict[str, ts.StateCounts]:
    model = network()
    with ts.capture(model, "Linear") as run:
        run_epoch(model)
    return counts_of(run)


def whole(model: Network, backend: CompileCounter) -> Callable[..., object]:
    return torch.compile(model, backend=backend)


def compile_method(model: Network, backend: CompileCounter) -> Callable[..., object]:
    model.compile(backend=backend)
    return model


def forward_replaced(model: Network, backend: CompileCounter) -> Callable[..., object]:
    model.forward = torch.compile(model.forward, backend=backend)
    return model


def block_wrapped(model: Network, backend: CompileCounter) -> Callable[..., object]:
    model[1] = torch.compile(model[1], backend=backend)
    return model


def blocks_compiled(model: Network, backend: CompileCounter) -> Callable[..., object]:
    for part in model:
        part.compile(backend=backend)
    return model


def function(model: Network, backend: CompileCounter) -> Callable[..., object]:
    @torch.compile(backend=backend)
    def step(x: torch.Tensor) -> torch.Tensor:
        return model(x).square()

    return step


WAYS = (
    whole,
    compile_method,
    forward_replaced,
    block_wrapped,
    blocks_compiled,
    function,
)


SAMPLE = (whole, block_wrapped, function)


@pytest.mark.parametrize("way", thinned(WAYS, SAMPLE))
def test_a_model_that_ran_compiled_before_it_was_captured(way):
    model, backend = network(), CompileCounter()
    call = way(model, backend)
    run_epoch(call)
    graphs = backend.frame_count
    for _ in range(10):  # more often than torch.compile compiles one function (8 times)
        with ts.capture(model, "Linear") as run:
            run_epoch(call)
        assert counts_of(run) == eager_counts()
        run_epoch(call)
        assert counts_of(run) == eager_counts()  # and nothing after the end
    # At most two more, which count the passes of all models.
    assert graphs <= backend.frame_count <= 2 * graphs + 2
    assert hooks_of(model) == []


@pytest.mark.parametrize("way", thinned(WAYS, SAMPLE))
def test_an_efficiency_model_of_a_compiled_model(way):
    model, backend = network(), CompileCounter()
    call = way(model, backend)
    run_epoch(call)
    ts.build_efficiency_model(model, "Linear")
    run_epoch(call)
    assert counts_of(model) == eager_counts()
    ts.remove_state_layers(model)
    run_epoch(call)
    assert hooks_of(model) == []


def test_the_wrapper_of_torch_compile_is_captured_like_its_model():
    model = network()
    compiled = torch.compile(model, backend="eager")
    run_epoch(compiled)
    with ts.capture(compiled, ["0.0", "Linear"]) as run:
        run_epoch(compiled)
    assert counts_of(run) == eager_counts()
    assert ts.build_efficiency_model(compiled, "Linear") is compiled
    run_epoch(compiled)
    assert counts_of(compiled) == eager_counts() == counts_of(model)
    assert ts.remove_state_layers(compiled) is compiled
    assert hooks_of(model) == []
    assert not hasattr(model, "efficiency_layers")


def test_every_fifth_step_of_a_compiled_model():
    model, backend = network(), CompileCounter()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    seen = []
    for step in range(60):
        x = images(32, 4, seed=step)
        if step % 5:
            compiled(x)
            continue
        with ts.capture(model, "Linear") as run:
            compiled(x)
        seen.append([point.instance_count for point in run.efficiency_layers])
    assert seen == 12 * [[32, 32, 32]]
    assert backend.frame_count == 4  # with and without hooks; begin and end of passes


@pytest.mark.parametrize("container", [Network, nn.Sequential])
def test_labels_in_captures_of_a_compiled_model(container):
    model, backend = container(*network()), CompileCounter()
    compiled = torch.no_grad()(torch.compile(model, backend=backend, fullgraph=True))
    for _ in range(10):
        with ts.capture(model, "Linear") as run:
            for labels in ([3, 1, 3], [1, 1, 1]):
                run.labels(labels)
                compiled(images(3, 4))
            counts = run["0.0_post_states"].counts_by()
            assert {label: found.total for label, found in counts.items()} == {1: 4, 3: 2}
            compiled(images(3, 4))
            with pytest.raises(ts.errors.LabelsMissing):
                run["0.0_post_states"].counts_by()
        compiled(images(3, 4))
    assert backend.frame_count <= 4


def test_a_teacher_without_hooks_does_not_hide_those_of_its_student():
    teacher, student = network(), network()
    backend = CompileCounter()

    @torch.compile(backend=backend)
    def forward(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return model(x)

    with torch.no_grad(), ts.capture(student, "Linear") as run:
        for seed in range(3):
            forward(teacher, images(32, 4, seed=seed))
            forward(student, images(32, 4, seed=seed))
    assert [point.instance_count for point in run.efficiency_layers] == 3 * [96]
    assert backend.frame_count == 2


@pytest.mark.parametrize("fullgraph", [False, True])
def test_equal_blocks_share_one_graph(fullgraph):
    model, backend = network(12), CompileCounter()
    for part in model:
        part.compile(backend=backend, fullgraph=fullgraph)
    ts.build_efficiency_model(model, "Linear")
    with torch.no_grad():
        model(images(8, 4))  # followed, and so not compiled
        model(images(8, 4))
    assert [point.instance_count for point in model.efficiency_layers] == 12 * [16]
    assert backend.frame_count == 1


def test_captures_within_captures():
    model, backend = network(), CompileCounter()
    compiled = torch.compile(model, backend=backend)
    compiled(images(8, 4))
    with ts.capture(model, "0.0") as outer:
        compiled(images(8, 4))
        with ts.capture(model, ["0.0", "1.0"]) as inner:
            compiled(images(8, 4))
        compiled(images(8, 4))
    assert [point.instance_count for point in outer.efficiency_layers] == [24]
    assert [point.instance_count for point in inner.efficiency_layers] == [8, 8]


def test_inputs_of_layers():
    model = network()
    compiled = torch.compile(model, backend="eager")
    compiled(images(8, 4))
    with ts.capture(model, "Linear", method="both") as run:
        compiled(images(8, 4))
    assert [point.instance_count for point in run.efficiency_layers] == 6 * [8]


def test_a_hook_by_hand():
    layer, backend = nn.Linear(4, 2), CompileCounter()
    compiled = torch.compile(layer, backend=backend)
    compiled(images(8, 4))
    after, before = ts.StateCaptureHook("after"), ts.StateCaptureHook("before")
    for _ in range(2):
        after.attach(layer)
        before.attach(layer, before=True)
        with pytest.raises(ValueError, match="after is attached to a module already"):
            after.attach(layer)
        compiled(images(8, 4))
        after.detach()
        before.detach()
        compiled(images(8, 4))
    assert (after.instance_count, before.instance_count) == (16, 16)
    assert (after.neurons, before.neurons) == (2, 4)
    after.detach()  # once more does nothing


@pytest.mark.parametrize("compiled", [False, True])
def test_a_hook_that_pauses(compiled):
    layer, backend, hook = nn.Linear(4, 2), CompileCounter(), ts.StateCaptureHook("linear")
    hook.attach(layer)
    call = torch.compile(layer, backend=backend) if compiled else layer
    for step in range(6):
        hook.active = step % 2 == 0
        call(images(8, 4))
    assert hook.instance_count == 24
    assert backend.frame_count <= 2 * compiled


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_plain_and_can_be_captured(copied):
    backend = CompileCounter()
    forward = torch.compile(lambda model, x: model(x), backend=backend)
    plain = network()
    forward(plain, images(8, 4))
    captured = ts.build_efficiency_model(network(), "Linear")
    model = copied(captured)
    assert hooks_of(model) == []
    assert {*map(type, model.modules())} == {*map(type, plain.modules())}
    forward(model, images(8, 4))
    assert [point.instance_count for point in captured.efficiency_layers] == 3 * [0]
    assert backend.frame_count == 1
    with ts.capture(model, "Linear") as run:
        forward(model, images(8, 4))
    assert run.instance_count == 8


class Repeating(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.act = nn.Linear(4, 4), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.act(self.first(x)) - 0.5)


@pytest.mark.parametrize("backend", [None, "eager", "aot_eager"])
def test_calls_of_a_layer_have_their_own_points_and_labels(backend):
    torch.manual_seed(0)
    model = Repeating()
    call = torch.compile(model, backend=backend) if backend else model
    with torch.no_grad(), ts.capture(model, ["Linear", "ReLU"]) as run:
        for labels in ([3, 1, 3], [1, 1, 1]):
            run.labels(labels)
            call(images(3, 4))
    assert [*run] == ["first_post_states", "act_post_states", "act:2_post_states"]
    assert [point.passes for point in run.efficiency_layers] == 3 * [(2, 2)]
    for point in run.efficiency_layers:
        assert {label: found.total for label, found in point.counts_by().items()} == {1: 4, 3: 2}
    once, twice = run["act_post_states"], run["act:2_post_states"]
    assert np.unpackbits(once.raw_states).sum() > np.unpackbits(twice.raw_states).sum() > 0


class FailsFirst(torch.nn.Sequential):
    """Fails between its layers in the first pass."""

    fails = True

    def forward(self, x):
        x = self[0](x)
        if self.fails:
            raise RuntimeError("the first pass")
        return self[1](x)


@pytest.mark.parametrize("compiled_first", [True, False])
@torch.no_grad()
def test_a_model_is_compiled_after_its_first_pass_has_failed(compiled_first):
    model = FailsFirst(torch.nn.Linear(4, 6), torch.nn.Linear(6, 3))
    with ts.capture(model, "Linear") as run:
        compiled = torch.compile(model, backend="eager")
        with pytest.raises(RuntimeError, match="the first pass"):
            (compiled if compiled_first else model)(torch.ones(5, 4))
        model.fails = False
        for _ in range(3):
            compiled(torch.ones(5, 4))
    assert run["1"].state_count == 3 * 5
    assert [point.passes for point in run.values()] == [(4, 4), (3, 4)]
