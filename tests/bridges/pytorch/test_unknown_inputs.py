"""Layers of which nothing tells whose the rows are: counted, and without labels."""

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.followed_models import Calls
from tests.support.torch_models import images


def labels_of(point):
    return {label: counts.total for label, counts in point.counts_by().items()}


class Experts(nn.Module):
    """Tokens of several inputs are gathered by expert, and put back."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.before, self.router = nn.Linear(6, 8), nn.Linear(8, 2)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.after = nn.Linear(8, 3)

    def forward(self, x):
        hidden = self.before(x)
        tokens = hidden.reshape(-1, 8)
        expert = self.router(tokens).argmax(-1)
        out = torch.zeros_like(tokens)
        for number, module in enumerate(self.experts):
            at = torch.where(expert == number)[0]
            out.index_add_(0, at, module(tokens[at]))
        return self.after(out.view_as(hidden).mean(1))


class Regions(nn.Module):
    """Of each image there are several regions, taken by a mask: two for each, or not."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv1d(3, 4, 1), nn.Linear(4, 5)

    def forward(self, x, chosen):
        return self.head(self.body(x).transpose(1, 2)[chosen])


class Biased(nn.Module):
    """A table of relative positions goes through a layer, without the inputs."""

    def __init__(self):
        super().__init__()
        self.table, self.layer = nn.Linear(2, 4), nn.Linear(4, 4)
        self.register_buffer("places", images(6, 2))

    def forward(self, x):
        return self.layer(x + self.table(self.places))


def windows_beside(repeated):
    """Return what puts a repeated token of each input before each window of all inputs."""

    def forward(m, x):
        z = m.body(x).view(-1, 3, 4)  # two windows of each input
        token = repeated(m.token(x[:, :1]))
        return m.head(torch.cat([token, z], 1))

    return Calls(forward, body=nn.Linear(4, 4), token=nn.Linear(4, 4), head=nn.Linear(4, 5))


def test_windows_of_each_input_beside_inputs_of_each_window_have_no_labels():
    """As in RF-DETR, whose token is repeated window by window, and is the same for all inputs."""
    model = windows_beside(lambda token: token.repeat(2, 1, 1))
    with ts.capture(model, "Linear") as run, run.labels([0, 1, 2]):
        model(images(3, 6, 4))
    with pytest.raises(ts.errors.InputsUnknown, match="inputs lost at cat"):
        run["head"].counts_by()
    assert run["head"].state_count == 3 * 2 * 4
    model = windows_beside(lambda token: token.repeat_interleave(2, 0))
    with ts.capture(model, "Linear") as run, run.labels([0, 1, 2]):
        model(images(3, 6, 4))
    assert labels_of(run["head"]) == {0: 8, 1: 8, 2: 8}


MIXED = {
    "every second": lambda z: (z[::2], z[1::2]),
    "cut elsewhere": lambda z: (z[1:6], z[2:7]),
    "narrow": lambda z: (z.narrow(0, 1, 5), z.narrow(0, 3, 5)),
    "split": lambda z: (z.split([3, 5, 2])[1],) * 2,
    "topk": lambda z: (z.topk(5, 0).values,) * 2,
    "take_along_dim": lambda z: (z.take_along_dim(z.argsort(0)[:5], 0),) * 2,
    "the same": lambda z: (z[:5], z[:5]),
}


@pytest.mark.parametrize("how", MIXED)
def test_rows_of_several_inputs_side_by_side_have_no_labels(how):
    """Although there are as many of them as inputs."""

    def joined(m, x):
        z = m.body(torch.cat([x, x + 1]))
        return m.head(torch.cat(MIXED[how](z), 1))

    model = Calls(joined, body=nn.Linear(4, 3), head=nn.Linear(6, 3))
    with ts.capture(model, "head") as run, run.labels(range(5)):
        model(images(5, 4))
    with pytest.raises(ts.errors.InputsUnknown):
        run["head"].counts_by()


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_tokens_gathered_by_expert_have_no_labels(keep):
    model = Experts()
    with ts.capture(model, "Linear", keep=keep) as run:
        for size in (4, 3):
            with run.labels(range(size)):
                model(images(size, 5, 6))
    assert run.instance_count == 7
    for name in ("before", "router"):
        assert labels_of(run[f"{name}_post_states"]) == {0: 10, 1: 10, 2: 10, 3: 5}
    assert labels_of(run["after_post_states"]) == {0: 2, 1: 2, 2: 2, 3: 1}
    experts = [run[f"experts.{number}_post_states"] for number in range(2)]
    assert sum(point.state_count for point in experts) == 35
    for point in experts:
        with pytest.raises(ts.errors.InputsUnknown, match=r"inputs lost at __getitem__\)"):
            point.counts_by()


def test_rows_that_divide_evenly_are_no_evidence():
    model = Regions()
    chosen = torch.zeros(2, 3, dtype=torch.bool)
    chosen[0, :2] = True  # two rows, both of the first of two images
    with ts.capture(model, "*") as run, run.labels(["cat", "dog"]):
        model(images(2, 3, 3), chosen)
    assert labels_of(run["body_post_states"]) == {"cat": 3, "dog": 3}
    head = run["head_post_states"]
    assert (head.state_count, run.instance_count) == (2, 2)
    for read in (head.counts_by, lambda: head.histogram([0])):
        with pytest.raises(ts.errors.InputsUnknown, match="head_post_states: 2 of 2 states"):
            read()


def test_a_table_without_a_batch_is_of_no_input():
    model = Biased()
    with ts.capture(model, "Linear") as run, run.labels(range(6)):
        model(images(6, 6, 4))
    assert labels_of(run["layer_post_states"]) == dict.fromkeys(range(6), 6)
    table = run["table_post_states"]
    assert (table.state_count, table.instance_count) == (6, 6)
    with pytest.raises(ts.errors.InputsUnknown, match="computed from nothing that counts inputs"):
        table.counts_by()


def test_a_pass_with_one_input_gives_it_all_rows_and_is_no_example_for_others():
    model = Experts()
    with ts.capture(model, "Linear") as run, run.labels(["one"]):
        model(images(1, 5, 6))
    assert all(set(labels_of(point)) == {"one"} for point in run.values() if point.state_count)
    with ts.capture(model, ["before", "router", "after"]) as run:
        for size in (1, 3):
            with run.labels(range(size)):
                model(images(size, 5, 6))
    assert labels_of(run["router_post_states"]) == {0: 10, 1: 5, 2: 5}


def test_a_layer_that_runs_late_is_followed_in_its_first_pass():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.late = nn.Linear(4, 4), nn.Linear(4, 4)
            self.is_late = False  # no argument, which would tell passes apart

        def forward(self, x):
            hidden = self.first(x)
            return self.late(hidden.transpose(0, 1)) if self.is_late else hidden

    model = Late()
    with ts.capture(model, "Linear") as run, run.labels([0, 1]):
        for model.is_late in (False, False, True, False, True):
            model(images(2, 3, 4))
    assert labels_of(run["late_post_states"]) == {0: 6, 1: 6}
    with ts.capture(model, "Linear") as run, run.labels([0, 1]):
        for model.is_late in (*[False] * 8, True):  # too late: such passes are followed no more
            model(images(2, 3, 4))
    with pytest.raises(ts.errors.InputsUnknown, match="did not run in the passes that were follow"):
        run["late_post_states"].counts_by()


def test_images_in_a_list_are_inputs():
    class OfList(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, parts):
            return self.layer(torch.cat(parts))

    model = OfList()
    with ts.capture(model, "Linear") as run, run.labels([0, 1, 2]):
        model([images(2, 4), images(1, 4), images(3, 4)])
    assert (run.instance_count, run["layer_post_states"].state_count) == (3, 6)
    with pytest.raises(ts.errors.InputsUnknown, match="6 of 6 states"):
        run["layer_post_states"].counts_by()


def test_the_number_of_inputs_is_that_of_the_labels_or_unknown():
    class Made(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, size):
            return self.layer(torch.ones(size, 4))

    model = Made()
    with ts.capture(model, "Linear") as run:
        model(3)
    with pytest.raises(ts.errors.InputsUnknown, match="the number of inputs is not known"):
        run.instance_count  # noqa: B018
    with ts.capture(model, "Linear") as run, run.labels([0, 1]):
        model(3)
    assert run.instance_count == 2


def test_an_image_without_a_batch_axis_is_one_input():
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(0), nn.Linear(80, 2))
    with ts.capture(model, "*", method="both") as run:
        for seed in range(2):
            with run.labels([seed]):
                model(images(3, 6, 6, seed=seed))
    assert run.instance_count == 2
    assert labels_of(run["1_post_states"]) == {0: 16, 1: 16}
    assert labels_of(run["3_post_states"]) == {0: 1, 1: 1}


def test_a_capture_with_unknown_rows_is_resumed(tmp_path):
    model, data, path = Experts(), images(12, 5, 6), tmp_path / "run"
    with ts.Store(path, "x") as store, ts.capture(model, "Linear", storage_path=store) as run:
        for batch in data[:7].split(4):
            model(batch)
    with ts.Store(path, "a") as store, ts.capture(model, "Linear", storage_path=store) as run:
        assert run.instance_count == 7
        for batch in data[run.instance_count :].split(4):
            model(batch)
        assert run.instance_count == 12
    with ts.capture(model, "Linear") as whole:
        model(data)
    for layer in ts.Store(path).efficiency_layers:
        assert layer.histogram() == whole[layer.name].histogram()
        assert layer.attributes() == whole[layer.name].attributes()
    with pytest.raises(ts.errors.InputsUnknown, match="inputs lost at __getitem__"):
        layer_of_experts(path).counts_by()


def layer_of_experts(path):
    return ts.Store(path)["experts.1_post_states"]


def test_units_go_with_the_passes():
    model = nn.Linear(4, 4)
    with ts.capture(model, "*") as run:
        with run.labels([0, 1, 1], units=["clip a", "clip a", "clip b"]):
            model(images(3, 4))
        with run.labels(units=["clip c"]), run.labels([5]):  # what is not given is of the outer one
            model(images(1, 4))
        with pytest.raises(ValueError, match=r"must be for the same inputs, got \[1, 2\]"):
            run.labels([1], units=[1, 2])
    (point,) = run.values()
    np.testing.assert_array_equal(point.units(), ["clip a", "clip a", "clip b", "clip c"])
    assert labels_of(point) == {0: 1, 1: 2, 5: 1}
