"""Layers in the control flow of torch: cond, while_loop, scan, map, and regions compiled once."""

import numpy as np
import pytest
import torch
from torch import nn
from torch._higher_order_ops import while_loop
from torch._higher_order_ops.map import map as map_over
from torch._higher_order_ops.scan import scan
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

import tensorstate_gpu as ts
from tensorstate_gpu.errors import SkippedLayersWarning
from tensorstate_gpu.training import StateMonitor
from tests.support.torch_models import expected_rows, ignores_torchscript, images

pytestmark = [
    pytest.mark.usefixtures("nothing_compiled_before"),
    ignores_torchscript,
    # What torch says of its own doings, also without a capture.
    pytest.mark.filterwarnings("ignore:The .grad attribute", "ignore:Error detected in While"),
]


class Network(nn.Module):
    """Runs a part of its layers in some control flow."""

    def __init__(self, middle):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)
        self.one, self.other = (nn.Sequential(nn.Linear(6, 6), nn.ReLU()) for _ in range(2))
        self.middle = middle

    def forward(self, x):
        return self.last(self.middle(self, self.first(x)))


def by_cond(model, x):
    return torch.cond(x.sum() > 0, lambda y: model.one(y), lambda y: model.other(y), (x,))


def by_while(model, x):
    def step(i, y):
        return i + 1, model.one(y)

    return while_loop(lambda i, y: i < 2, step, (torch.zeros((), dtype=torch.int64), x))[1]


def by_map(model, x):
    return map_over(lambda y: model.one(y), x)


def by_scan(model, x):
    def step(carry, y):
        carry = model.one(carry + y)
        return carry, carry.clone()

    return scan(step, torch.zeros(1, 6), x[:, None])[1][:, 0]


def plainly(model, x):
    """What each of them runs, in the order of its calls."""
    if model.middle is by_cond:
        return [model.one(x) if x.sum() > 0 else model.other(x)]
    if model.middle is by_while:
        return [model.one(x), model.one(model.one(x))]
    if model.middle is by_map:
        return [model.one(each)[None] for each in x]
    carry = torch.zeros(1, 6)
    return [carry := model.one(carry + each[None]) for each in x]


def by_hand(model, batches):
    """The packed rows of the ReLUs that run, in any order."""
    found = {"one.1": [], "other.1": []}
    for x in batches:
        hidden = model.first(x)
        other = model.middle is by_cond and not hidden.sum() > 0
        found["other.1" if other else "one.1"] += plainly(model, hidden)
    return {name: sorted_rows(parts) for name, parts in found.items() if parts}


def sorted_rows(parts):
    rows = np.concatenate([expected_rows(part) for part in parts])
    return rows[np.lexsort(rows.T)]


NOT_CAPTURED = "ignore:.*in compiled graphs:tensorstate_gpu.errors.SkippedLayersWarning"
CAPTURED = ["one.1", "last"]
FLOWS = [by_cond, by_while, by_map, by_scan]
BATCHES = [images(5, 4, seed=seed) for seed in range(4)]


@pytest.mark.parametrize("middle", FLOWS)
@pytest.mark.parametrize("gradients", [False, True])
def test_layers_in_control_flow_are_captured_as_plain_ones(middle, gradients):
    model = Network(middle)
    with torch.set_grad_enabled(gradients):
        bare = [model(x) for x in BATCHES]
        with ts.capture(model, "ReLU", merge_calls=True) as run:
            captured = [model(x) for x in BATCHES]
    for a, b in zip(bare, captured, strict=True):
        assert torch.equal(a, b) or (middle is by_scan and torch.allclose(a, b))
        assert b.requires_grad == gradients
    expected = by_hand(model, BATCHES)
    for name in ("one.1", "other.1"):
        if name not in expected:
            assert run[name].state_count == 0
            continue
        rows = run[name].raw_states
        np.testing.assert_array_equal(rows[np.lexsort(rows.T)], expected[name])


def gradients_of(model, call):
    for x in BATCHES:
        call(x).sum().backward()
    return [each.grad.clone() for each in model.parameters() if each.grad is not None]


@pytest.mark.parametrize(
    ("middle", "backend"),
    [(by_cond, None), (by_map, None), (by_cond, "aot_eager"), (by_while, "aot_eager")],
)
@pytest.mark.parametrize("attach_to", ["*", "ReLU"])
@pytest.mark.filterwarnings(
    "ignore:.*in compiled graphs:tensorstate_gpu.errors.SkippedLayersWarning"
)
def test_gradients_are_those_without_a_capture(middle, backend, attach_to):
    bare, model = Network(middle), Network(middle)
    alone, call = bare, model
    if backend is not None:
        alone, call = (torch.compile(each, backend=backend) for each in (bare, model))
    expected = gradients_of(bare, alone)
    method = "both" if attach_to == "*" else "after"
    with ts.capture(model, attach_to, method=method, merge_calls=True) as run:
        found = gradients_of(model, call)
    assert len(found) == len(expected)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b)
    for name, rows in by_hand(model, BATCHES).items():
        assert run[f"{name}_post_states"].state_count == (0 if backend else len(rows))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("middle", [by_cond, by_while, by_map, by_scan])
def test_compiled_control_flow_is_not_captured_and_says_so(middle, backend):
    model = Network(middle)
    call = torch.compile(model, backend=backend)
    bare = [call(x) for x in BATCHES]
    told = r"one\.1_post_states: its calls in torch\.cond.*not captured in compiled graphs"
    with pytest.warns(SkippedLayersWarning, match=told), ts.capture(model, CAPTURED) as run:
        captured = [call(x) for x in BATCHES]
    assert all(map(torch.equal, bare, captured))
    assert (run["one.1"].state_count, run["last"].state_count) == (0, 20)


class InPlace(nn.Module):
    """Its branch reads a tensor that a layer has rectified in place."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return torch.cond(x.sum() > 0, self.branch, self.branch, (x,))

    def branch(self, x):
        hidden = x * 2
        rectified = self.relu(hidden)
        rectified.add_(1)
        return rectified + hidden


@pytest.mark.parametrize("backend", [None, "eager", "aot_eager"])
@pytest.mark.parametrize("method", ["before", "after"])
@pytest.mark.filterwarnings(
    "ignore:.*in compiled graphs:tensorstate_gpu.errors.SkippedLayersWarning"
)
def test_what_a_branch_writes_in_place_stays(method, backend):
    model = InPlace()
    call = model if backend is None else torch.compile(model, backend=backend)
    with torch.no_grad():
        expected = call(images(3, 4))
        with ts.capture(model, "ReLU", method=method):
            assert torch.equal(call(images(3, 4)), expected)


@pytest.mark.filterwarnings(NOT_CAPTURED)
def test_traces_of_control_flow_work_while_it_is_captured():
    model = Network(by_cond)
    x = BATCHES[0]
    with torch.no_grad(), ts.capture(model, "ReLU"):
        traced = make_fx(model)(x)
        with FlopCounterMode(display=False) as flops:
            model(x)
        torch.testing.assert_close(traced(x), model(x))
    assert flops.get_total_flops() > 0


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(1, 3, 3, padding=1), nn.ReLU()

    def forward(self, x):
        return torch.cond(x.sum() > 0, self.last_axis, lambda y: self.last_axis(y) - 1, (x,))

    def last_axis(self, x):
        return self.act(self.conv(x).permute(0, 2, 3, 1))


def test_axes_and_labels_are_followed_through_a_branch_outside_of_graphs():
    model = Images()
    with ts.capture(model, "ReLU") as run, run.labels([0, 1, 1]):
        model(images(3, 1, 4, 4))
    point = run["act"]
    assert (point.axis, point.axis_origin, point.neurons) == (3, "flow", 3)
    assert {label: counts.total for label, counts in point.counts_by().items()} == {0: 16, 1: 32}


@pytest.mark.filterwarnings(NOT_CAPTURED, "ignore:the StateMonitor captured nothing")
def test_a_captured_model_in_a_branch_of_another_function():
    """Its passes write as its layers do: what begins and ends them is left out, too."""
    model, other = Network(by_while).one.eval(), nn.Linear(6, 6)

    def function(x):
        return torch.cond(x.sum() > 0, lambda y: model(y), lambda y: other(y), (x,))

    call = torch.compile(function, backend="aot_eager")
    x = images(5, 6).abs()
    expected = call(x)
    with ts.capture(model, "Linear") as run:
        assert torch.equal(call(x), expected)
    assert run["0"].state_count == 0
    monitor = StateMonitor(model, "Linear", every_n_steps=2)
    for _ in range(3):
        assert torch.equal(call(x), expected)
        monitor.step()
    monitor.remove()


@pytest.mark.filterwarnings("error::tensorstate_gpu.errors.SkippedLayersWarning")
def test_an_export_says_nothing_of_layers_left_out():
    model = Network(by_cond).eval()
    with ts.capture(model, "ReLU"):
        program = torch.export.export(model, (BATCHES[0],))
    torch.testing.assert_close(program.module()(BATCHES[0]), model(BATCHES[0]))


def test_stages_have_no_rows_of_branches_and_say_so():
    model = Network(by_cond)
    call = torch.compile(model, backend="aot_eager")
    told = pytest.warns(SkippedLayersWarning, match="calls in torch")
    with torch.no_grad(), told, ts.capture(model, "Linear", keep="counts", stage_rows=100) as run:
        model(BATCHES[0])  # which creates the stages
        for x in BATCHES:
            call(x)
    assert [run[name].state_count for name in ("first", "last")] == [25, 25]
    assert run["one.0"].state_count + run["other.0"].state_count == 5
