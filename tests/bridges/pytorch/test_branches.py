"""Layers in the control flow of torch: cond, while_loop, scan, map, and regions compiled once."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch._higher_order_ops import while_loop
from torch._higher_order_ops.map import map as map_over
from torch._higher_order_ops.scan import scan

import tensorstate_gpu as ts
from tensorstate_gpu import errors
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


FLOWS = [by_cond, by_while, by_map, by_scan]
BATCHES = [images(5, 4, seed=seed) for seed in range(4)]


@pytest.mark.parametrize(
    ("middle", "backend", "gradients"),
    [
        *product(FLOWS, [None, "aot_eager"], [True]),
        (by_cond, None, False),
        (by_map, "eager", False),
    ],
)
def test_layers_in_control_flow_are_captured_as_plain_ones(middle, backend, gradients):
    model = Network(middle)
    call = model if backend is None else torch.compile(model, backend=backend)
    with torch.set_grad_enabled(gradients):
        bare = [call(x) for x in BATCHES]
        with ts.capture(model, "ReLU", merge_calls=True) as run:
            captured = [call(x) for x in BATCHES]
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


@pytest.mark.parametrize(
    ("middle", "backend"),
    [
        *product([by_cond, by_map], [None, "aot_eager"]),
        *((by_while, "aot_eager"), (by_scan, "aot_eager")),
    ],
)
@pytest.mark.parametrize("attach_to", ["*", "ReLU"])
def test_gradients_are_those_without_a_capture(middle, backend, attach_to):
    """Which run the branches once more; nothing is counted again."""

    def gradients(model, call):
        losses = [call(x).sum() for x in BATCHES[1:]]
        for x in BATCHES[:1]:
            call(x).sum().backward()
        return losses, model

    def found_in(losses, model):
        for loss in losses:  # after what came later, and after the capture has ended
            loss.backward()
        return [each.grad.clone() for each in model.parameters() if each.grad is not None]

    bare, model = Network(middle), Network(middle)
    alone, call = bare, model
    if backend is not None:
        alone, call = (torch.compile(each, backend=backend) for each in (bare, model))
    expected = found_in(*gradients(bare, alone))
    method = "both" if attach_to == "*" else "after"
    with ts.capture(model, attach_to, method=method, merge_calls=True) as run:
        passes = gradients(model, call)
    found = found_in(*passes)
    assert len(found) == len(expected)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b)
    for name, rows in by_hand(model, BATCHES).items():
        assert run[f"{name}_post_states"].state_count == len(rows)


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


def test_axes_are_followed_within_a_branch_of_a_graph():
    """Also behind a layer that is captured, and passes on a copy."""
    model = Images()
    with ts.capture(model) as of_conv, ts.capture(model, "ReLU") as run:
        torch.compile(model, backend="aot_eager")(images(3, 1, 4, 4))
    assert (run["act"].axis, run["act"].axis_origin, run["act"].state_count) == (3, "flow", 48)
    assert of_conv["conv"].state_count == 48


def test_a_model_in_a_branch_of_another_function():
    model = Network(by_while).one
    other = nn.Linear(6, 6)

    def function(x):
        return torch.cond(x.sum() > 0, lambda y: model(y), lambda y: other(y), (x,))

    x = images(5, 6).abs()
    with ts.capture(model, "Linear") as run:
        assert torch.compile(function, backend="aot_eager")(x).requires_grad
    np.testing.assert_array_equal(run["0"].raw_states, expected_rows(model[0](x)))


class Named(nn.Module):
    def forward(self, x):
        return {"out": x.relu()}


def passes_of(call, model, attach_to, **options):
    """The capture of some passes, and what they return."""
    with torch.no_grad(), ts.capture(model, attach_to, **options) as run:
        return run, [call(x) for x in BATCHES]


def test_what_cannot_be_captured_in_a_branch_is_told():
    model = Network(lambda model, x: torch.cond(x.sum() > 0, model.yes, model.no, (x,)))
    model.named = Named()
    model.yes = lambda y: model.named(model.one(y))["out"]
    model.no = lambda y: model.other(y)
    call = torch.compile(model, backend="aot_eager")
    with torch.no_grad():
        bare = [call(x) for x in BATCHES]
    with pytest.warns(errors.SkippedLayersWarning, match=r"named_post_states: its calls in torch"):
        run, captured = passes_of(call, model, "Named")
    assert all(map(torch.equal, bare, captured))
    assert run["named"].state_count == 0


def test_stages_have_no_rows_of_branches_and_say_so():
    model = Network(by_cond)
    call = torch.compile(model, backend="aot_eager")
    with pytest.warns(errors.SkippedLayersWarning, match="calls in torch"):
        run, _ = passes_of(call, model, "Linear", keep="counts", stage_rows=100)
    assert [run[name].state_count for name in ("first", "one.0", "last")] == [20, 0, 20]
