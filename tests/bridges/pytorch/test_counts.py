"""The right states, counted rightly: against exact numbers, the oracle and closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu import testing
from tensorstate_gpu.demo import LeNet5
from tests.support.samples import sweep
from tests.support.torch_models import expected_rows, hooks_of, images

CONVOLUTIONS = ["conv_1_post_states", "conv_2_post_states", "conv_3_post_states"]


@sweep
@torch.no_grad()
def test_the_tutorials_exact_counts(every):
    number = 10_000 if every else 1_000
    torch.manual_seed(0)
    model = LeNet5().eval()
    with ts.capture(model, "Conv2d") as run:
        for start in range(0, number, 200):
            model(images(200, 784, seed=start))
    assert list(run) == CONVOLUTIONS
    points = run.efficiency_layers
    assert [point.state_count for point in points] == [576 * number, 64 * number, number]
    assert [point.instance_count for point in points] == [number] * 3
    assert [point.states_per_instance() for point in points] == [576, 64, 1]
    assert [point.neurons for point in points] == [20, 50, 100]
    assert [int(point.counts().sum()) for point in points] == [576 * number, 64 * number, number]
    assert [point.max_entropy() for point in points] == [20, 50, 100]


@torch.no_grad()
@pytest.mark.parametrize("keep", ["states", "counts"])
def test_states_equal_the_oracle_of_each_layers_output(keep):
    torch.manual_seed(1)
    model = LeNet5().eval()
    seen: dict[str, list[torch.Tensor]] = {}
    for name in ("conv_1", "conv_2", "conv_3", "maxp_1", "pred"):
        model.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: seen.setdefault(name, []).append(output.clone())
        )
    with ts.capture(model, [*seen, "Conv2d", "maxp_1", "pred"], keep=keep) as run:
        for seed, size in enumerate((7, 1, 12)):
            model(images(size, 784, seed=seed))
    assert len(run) == len(seen) == 5
    for name, outputs in seen.items():
        axis = 1 if outputs[0].ndim == 4 else -1
        rows = np.concatenate([expected_rows(output, axis) for output in outputs])
        point = run[f"{name}_post_states"]
        if keep == "states":
            np.testing.assert_array_equal(point.raw_states, rows)
        ids, counts = testing.count(rows)
        assert point.state_ids() == [row.tobytes() for row in ids]
        np.testing.assert_array_equal(point.counts(), counts)
        np.testing.assert_array_equal(point.states, testing.decompress(ids, outputs[0].shape[axis]))


# The states of the first layer: 4 x none, 2 x the first, 1 x the second, 1 x both.
BATCH = torch.tensor([[-1.0, -1.0]] * 4 + [[1.0, -1.0]] * 2 + [[-1.0, 1.0]] + [[1.0, 1.0]])


def two_neurons() -> nn.Sequential:
    """The identity on two neurons, then two neurons that fire together: when the first does."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[1].weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    return model


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_a_two_neuron_network_in_closed_form(keep):
    model = ts.build_efficiency_model(two_neurons(), "Linear", keep=keep)
    model(BATCH)
    first, second = model.efficiency_layers
    assert first.state_ids() == [b"\x00", b"\x01", b"\x02", b"\x03"]
    assert first.counts().tolist() == [4, 2, 1, 1]
    assert second.state_ids() == [b"\x00", b"\x03"]
    assert second.counts().tolist() == [5, 3]
    # 1/2 log2 2 + 1/4 log2 4 + 2/8 log2 8
    assert first.entropy() == pytest.approx(1.75, rel=1e-15)
    assert first.efficiency() == pytest.approx(0.875, rel=1e-15)
    assert first.entropy(0) == pytest.approx(2, rel=1e-15)
    assert first.entropy(2) == pytest.approx(-math.log2(22 / 64), rel=1e-14)
    assert first.entropy(math.inf) == pytest.approx(1, rel=1e-15)
    five_to_three = 3 - 5 / 8 * math.log2(5) - 3 / 8 * math.log2(3)
    assert second.entropy() == pytest.approx(five_to_three, rel=1e-14)
    assert second.efficiency() == pytest.approx(five_to_three / 2, rel=1e-14)
    network = math.sqrt(0.875 * five_to_three / 2)
    assert ts.network_efficiency(model) == pytest.approx(network, rel=1e-14)
    # Half right: (accuracy^2 x efficiency)^(1/3)
    assert ts.aIQ(network, 0.5, 2) == pytest.approx((network / 4) ** (1 / 3), rel=1e-14)
    report = ts.report(model, accuracy=0.5)
    assert report.aiq == pytest.approx((network / 4) ** (1 / 3), rel=1e-14)
    assert [layer.ceiling for layer in report.layers] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("before", ["0_pre_states", "1_pre_states"]),
        ("after", ["0_post_states", "1_post_states"]),
        ("both", ["0_pre_states", "0_post_states", "1_pre_states", "1_post_states"]),
    ],
)
def test_before_after_and_both(method, names):
    model = ts.build_efficiency_model(two_neurons(), "Linear", method=method)
    model(BATCH)
    assert [point.name for point in model.efficiency_layers] == names
    for point in model.efficiency_layers:
        expected = [5, 3] if point.name == "1_post_states" else [4, 2, 1, 1]
        assert point.counts().tolist() == expected, point.name


def test_a_single_layer_is_a_model_too():
    layer = nn.Linear(2, 3)
    with ts.capture(layer, "Linear") as run:
        layer(BATCH)
    assert list(run) == ["Linear_post_states"]
    assert run["Linear_post_states"].state_count == 8


def test_counting_goes_on_after_it_was_read_and_begins_anew_after_a_reset():
    model = ts.build_efficiency_model(two_neurons(), "0")
    (point,) = model.efficiency_layers
    model(BATCH)
    assert point.counts().tolist() == [4, 2, 1, 1]
    model(BATCH[:1])
    assert point.counts().tolist() == [5, 2, 1, 1]
    ts.reset_efficiency_model(model)
    assert point.state_count == 0
    model(BATCH[-1:])
    assert point.state_ids() == [b"\x03"]


# ---- labels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_labels_given_during_capture(keep):
    model = nn.Conv2d(1, 3, 2)
    y = np.array([2, 0, 2, 1, 0, 2])
    x = images(6, 1, 4, 5)
    with ts.capture(model, "Conv2d", keep=keep) as run:
        for part in (slice(0, 4), slice(4, 6)):
            run.labels(y[part])
            model(x[part])
    found = run["Conv2d_post_states"].counts_by()
    assert list(found) == [0, 1, 2]
    for label, counts in found.items():
        ids, expected = testing.count(expected_rows(model(x[y == label]), 1))
        assert counts.state_ids() == [row.tobytes() for row in ids]
        np.testing.assert_array_equal(counts.counts, expected)


def test_labels_may_be_strings_lists_and_tensors():
    model = two_neurons()
    with ts.capture(model, "0", keep="counts") as run:
        for labels in (["cat"] * 8, ("dog",) * 8, np.array(["cat"] * 8)):
            run.labels(labels)
            model(BATCH)
    found = run["0_post_states"].counts_by()
    assert {label: counts.total for label, counts in found.items()} == {"cat": 16, "dog": 8}
    with ts.capture(model, "0", keep="counts") as run:
        run.labels(torch.arange(8) % 2)
        model(BATCH)
    assert list(run["0_post_states"].counts_by()) == [0, 1]


def test_labels_hold_for_one_forward_pass():
    model = two_neurons()
    with ts.capture(model, "0") as run:
        run.labels([1] * 8)
        model(BATCH)
        model(BATCH[:2])
    message = (
        r"0_post_states: 2 of 10 instances were captured without labels; .*"
        r"`with run\.labels\(y_batch\):` .*counts_by\(labels\)"
    )
    with pytest.raises(ts.errors.LabelsMissing, match=message):
        run["0_post_states"].counts_by()
    with pytest.raises(ts.errors.LabelsMissing, match=r"without units; .*units=\.\.\."):
        run["0_post_states"].units()


class Fails(nn.Module):
    """Runs its first layer, and fails before the second when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = two_neurons()
        self.failing = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        if self.failing:
            raise ArithmeticError("as told")
        return self.second(x)


def test_labels_end_with_a_failed_forward_pass_too():
    model = Fails()
    with ts.capture(model, "second") as run:
        run.labels([1] * 8)
        model.failing = True
        with pytest.raises(ArithmeticError):
            model(BATCH)
        model.failing = False
        model(BATCH)
    with pytest.raises(ValueError, match="8 of 8 instances were captured without labels"):
        run["second_post_states"].counts_by()
    assert hooks_of(model) == []


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_what_is_no_label_is_refused_before_the_pass(keep):
    model = two_neurons()
    with ts.capture(model, "Linear", keep=keep) as run:
        run.labels(range(8))
        model(BATCH)
        run.labels(range(8))
        for wrong in ([[1] * 8], 1):
            with pytest.raises(ValueError, match="labels must be 1-D, one for each instance"):
                run.labels(wrong)
        with pytest.raises(TypeError, match="labels must be integers or strings"):
            run.labels([0.5] * 8)
        model(BATCH)
    for point in run.efficiency_layers:
        assert (point.state_count, point.instance_count) == (16, 16)
        assert {k: v.total for k, v in point.counts_by().items()} == dict.fromkeys(range(8), 2)


@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize("length", [0, 7, 9])
def test_a_pass_does_not_fail_for_labels_of_the_wrong_length(keep, length):
    model = two_neurons()
    with ts.capture(model, "Linear", keep=keep) as run:
        with (
            run.labels([1] * length),
            pytest.warns(
                UserWarning, match=f"labels are for {length} inputs, and a pass had 8"
            ) as told,
        ):
            model(BATCH)
        assert {warning.filename for warning in told} == {__file__}
        with run.labels(range(8)):
            model(BATCH)
    for point in run.efficiency_layers:
        assert (point.state_count, point.instance_count) == (16, 16)
        with pytest.raises(ts.errors.LabelsMissing, match="8 of 16 instances were captured"):
            point.counts_by()


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([1] * 8, ["a"] * 8, "labels in this store are integers, got strings"),
        (["a"] * 8, [1] * 8, "labels in this store are strings, got integers"),
        ([1] * 8, np.full(8, 2**63, np.uint64), "labels in a store must be below 2"),
        (["a"] * 8, ["\udc80"] * 8, "labels in a store must be valid Unicode"),
    ],
)
def test_a_pass_does_not_fail_for_labels_that_a_store_cannot_keep(first, second, said, tmp_path):
    model = two_neurons()
    with ts.capture(model, "Linear", storage_path=tmp_path / "run.zarr") as run:
        with run.labels(first):
            model(BATCH)
        with run.labels(second), pytest.warns(UserWarning, match=said) as told:
            model(BATCH)
        assert {warning.filename for warning in told} == {__file__}
        assert len({str(warning.message) for warning in told}) == 1  # of all layers
    assert run.instance_count == 16
    for point in run.efficiency_layers:
        with pytest.raises(ts.errors.LabelsMissing, match="8 of 16 instances were captured"):
            point.counts_by()


def test_labels_after_the_fact():
    model = two_neurons()
    with ts.capture(model, "0") as run:
        model(BATCH)
    point = run["0_post_states"]
    found = point.counts_by(["a"] * 4 + ["b"] * 4)
    assert {label: counts.counts.tolist() for label, counts in found.items()} == {
        "a": [4],
        "b": [2, 1, 1],
    }
    with pytest.raises(ValueError, match="labels must be 1-D"):
        point.counts_by(["a"] * 9)
    assert point.counts(slice(4, 8)).tolist() == [2, 1, 1]
