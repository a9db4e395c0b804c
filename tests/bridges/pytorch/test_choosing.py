"""Which layers are chosen: by default, the model itself, after an earlier call, and none."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.ao.quantization import FakeQuantize
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils.parametrizations import weight_norm

import tensorstate_gpu as ts
from tensorstate_gpu._capturing.attachment import plan_attachment
from tensorstate_gpu.errors import (
    NoLayerMatches,
    NotCapturable,
    SkippedLayersWarning,
    UnmatchedNameWarning,
)
from tests.support.torch_models import capture_hooks_of, expected_rows, images


class Net(nn.Sequential):
    pass


def network():
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    return Net(block, nn.Flatten(), nn.Linear(144, 5))


X = images(3, 1, 8, 8)


def names(points):
    return [point.name for point in points]


# ---- several calls -----------------------------------------------------------------------------


def test_a_second_call_decides_alone():
    model = ts.build_efficiency_model(network(), ["Conv2d", "Linear"])
    conv, linear = model.efficiency_layers
    model(X)
    ts.build_efficiency_model(model, ["ReLU", "Linear"])
    assert model.efficiency_layers[0] is linear
    assert names(model.efficiency_layers) == ["2_post_states", "0.2_post_states"]
    assert len(capture_hooks_of(model)) == 2
    model(X)
    assert [conv.instance_count, linear.instance_count] == [3, 6]
    assert model.efficiency_layers[1].instance_count == 3


def test_later_calls_stay_with_their_layer():
    act = nn.ReLU()
    model = ts.build_efficiency_model(nn.Sequential(act, nn.Linear(4, 4), act), ["ReLU", "Linear"])
    model(images(2, 4))
    ts.build_efficiency_model(model, "ReLU")
    assert names(model.efficiency_layers) == ["0_post_states", "0:2_post_states"]


def test_a_failing_call_leaves_the_points_of_the_first(tmp_path):
    model = ts.build_efficiency_model(network(), "Conv2d")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "other").touch()
    with pytest.raises(ValueError, match="run"):
        ts.build_efficiency_model(model, "Linear", storage_path=tmp_path / "run")
    model(X)
    assert [point.instance_count for point in model.efficiency_layers] == [3]


def test_the_store_of_removed_points_is_free(tmp_path):
    model = ts.build_efficiency_model(network(), "Conv2d", storage_path=tmp_path / "run")
    model(X)
    ts.build_efficiency_model(model, "Linear")
    with ts.Store(tmp_path / "run", "a") as store:
        assert store["0.0"].instance_count == 3


# ---- the model itself --------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["Net", Net, "itself", ["Net", "Linear"]])
def test_the_model_itself(choice):
    model = network()
    with ts.capture(model, model if choice == "itself" else choice) as run:
        output = model(X)
    assert names(run.values())[-1] == "Net_post_states"
    assert len(run) == (2 if isinstance(choice, list) else 1)
    assert (run["Net"].raw_states == expected_rows(output)).all()


@pytest.mark.parametrize("choice", ["*", nn.Module, lambda name, layer: True, "Ne?"])
def test_globs_and_classes_of_layers_do_not_mean_the_model(choice):
    model = network()
    if choice == "Ne?":
        with pytest.raises(NoLayerMatches):
            ts.build_efficiency_model(model, choice)
        return
    ts.build_efficiency_model(model, choice)
    assert "Net_post_states" not in names(model.efficiency_layers)


def test_the_model_and_layers_of_its_class():
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 3)), nn.ReLU())
    ts.build_efficiency_model(model, "Sequential")
    assert names(model.efficiency_layers) == ["0_post_states", "Sequential_post_states"]
    ts.build_efficiency_model(model, "Sequential", exclude=model)
    assert names(model.efficiency_layers) == ["0_post_states"]


# ---- by default --------------------------------------------------------------------------------


def test_layers_with_kernels_are_the_default():
    class Transformed(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.norm = nn.Embedding(9, 8), nn.LayerNorm(8)
            self.attention = nn.MultiheadAttention(8, 2)
            self.linear = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
            self.rnn = nn.Sequential(nn.GRU(8, 4))

    with ts.capture(network()) as run:
        pass
    assert [*run] == ["0.0_post_states", "2_post_states"]
    with ts.capture(Transformed()) as run:
        pass
    assert [*run] == [f"{name}_post_states" for name in ("embed", "attention", "linear", "rnn.0")]
    with pytest.raises(NoLayerMatches, match=r"no layer of Sequential has weights.*attach_to="):
        ts.build_efficiency_model(nn.Sequential(nn.ReLU()))


# ---- what matches nothing ----------------------------------------------------------------------


def test_names_in_lists_that_match_nothing_are_told():
    model = network()
    with pytest.warns(UnmatchedNameWarning, match=r"'Linaer' is the name of no layer.*'Linear'\?"):
        ts.build_efficiency_model(model, ["Conv2d", "Linaer", "no.*"])
    assert names(model.efficiency_layers) == ["0.0_post_states"]
    with pytest.warns(UnmatchedNameWarning, match="'0.7' is the name of no layer"):
        ts.build_efficiency_model(model, "*", exclude="0.7")


def test_an_unmatched_name_is_told_at_the_line_of_the_user_with_names_that_there_are():
    def attach():
        ts.build_efficiency_model(network(), ["Conv2d", "Linaer"])
        for names in (["Conv2d", "Linaer"], "Linaer"):
            with ts.capture(network(), names, missing="warn"):
                pass

    with pytest.warns(UnmatchedNameWarning, match=r"there are: 2 \(Linear\), 1 ") as told:
        attach()
    assert [warning.filename for warning in told] == [__file__] * 3
    assert str(told[0].message).endswith("0.0 (Conv2d) and 1 more")


def test_one_list_for_many_models():
    with pytest.warns(UnmatchedNameWarning, match=r"'LSTM' matches no layer; there are"):
        model = ts.build_efficiency_model(network(), "LSTM", missing="warn")
    assert model.efficiency_layers == []
    with (
        pytest.warns(UnmatchedNameWarning, match="has weights of two or more axes"),
        ts.capture(nn.Sequential(nn.ReLU()), missing="warn") as run,
    ):
        assert len(run) == 0
    with pytest.raises(ValueError, match="missing must be one of"):
        ts.build_efficiency_model(network(), "LSTM", missing="ignore")


# ---- what is told when attaching ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "method", "neurons"),
    [
        (nn.Conv2d(3, 4, 1), "after", 4),
        (nn.Conv2d(3, 4, 1), "before", 3),
        (nn.ConvTranspose1d(3, 5, 1), "both", 3),
        (nn.Linear(6, 7), "after", 7),
        (nn.BatchNorm2d(8), "before", 8),
        (nn.Embedding(20, 9), "after", 9),
    ],
)
def test_a_wrong_number_of_thresholds(layer, method, neurons):
    message = rf"0_.*_states: threshold must be .* per neuron \({neurons}\), got 2"
    with pytest.raises(ValueError, match=message):
        ts.build_efficiency_model(nn.Sequential(layer), "0", method=method, threshold=[0.0, 1.0])


def test_a_capture_without_with_says_so():
    block = ts.capture(network(), "Linear")
    for use in (lambda: block.report(), lambda: block.efficiency_layers):
        with pytest.raises(AttributeError, match=r"with ts\.capture\(model"):
            use()
    for use in (lambda: block["0"], lambda: list(block)):
        with pytest.raises(TypeError, match=r"with ts\.capture\(model"):
            use()
    assert "with ts.capture" in repr(block)


# ---- reading -----------------------------------------------------------------------------------


def test_points_by_number_and_by_the_name_of_their_layer(tmp_path):
    model = network()
    with ts.capture(model, ["Conv2d", "Linear"], storage_path=tmp_path / "run") as run:
        model(X)
    assert run[0] is run["0.0"] is run["0.0_post_states"]
    assert run[-1] is run["2"]
    assert "2" in run
    assert run.get("3") is None
    assert run.report()["2"].states == ts.Store(tmp_path / "run")["2"].state_count == 3
    for index in (2, -3):
        with pytest.raises(IndexError, match=f"run has 2 layers, got index {index}"):
            run[index]


def test_a_layer_with_two_points_is_named_in_full():
    model = network()
    with ts.capture(model, "Linear", method="both") as run:
        model(X)
    with pytest.raises(KeyError, match=r"several states of '2': .*2_pre_states.*2_post_states"):
        run["2"]


# ---- what has no neurons -----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["before", "both"])
def test_indices_are_no_states(method):
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 3))
    warns = pytest.warns(SkippedLayersWarning, match=r"have no neurons.*: 0_pre_states$")
    with warns, ts.capture(model, method=method) as run:
        for length in (7, 5):  # which are no numbers of neurons
            model(torch.arange(length)[None])
    after = ["0_post_states", "1_post_states"] if method == "both" else []
    assert sorted(run) == sorted([*after, "1_pre_states"])
    assert {point.neurons for point in run.values()} <= {4, 3}
    with pytest.raises(NotCapturable, match=r"^0_pre_states: the inputs of embeddings are indices"):
        ts.build_efficiency_model(model, "Embedding", method="before")
    with pytest.warns(SkippedLayersWarning):
        planned = plan_attachment(model, method=method)
    assert planned.point_names == {*run}


def test_all_layers_are_not_those_that_make_weights():
    quantised = nn.Linear(4, 3)
    quantised.weight_fake_quant = FakeQuantize()
    model = nn.Sequential(weight_norm(nn.Linear(3, 4)), nn.ReLU(), quantised)
    with ts.capture(model, "*") as run:
        model(images(2, 3))
    assert sorted(run) == ["0_post_states", "1_post_states", "2_post_states"]
    with ts.capture(model, "0.parametrizations.weight") as run:  # unless they are named
        model(images(2, 3))
    assert len(run) > 0


class LowRank(nn.Module):
    """What LoRA adds to a weight; its matrices have two axes, like those of layers."""

    def __init__(self, width, rank=2):
        super().__init__()
        self.down, self.up = nn.Linear(width, rank), nn.Parameter(torch.ones(width, rank))

    def forward(self, weight):
        return weight + self.up @ self.down.weight


@pytest.mark.parametrize("where", [[], ["*"]], ids=["default", "all"])
def test_matrices_that_change_a_weight_are_not_layers(where):
    layer = nn.Linear(4, 4)
    nn.utils.parametrize.register_parametrization(layer, "weight", LowRank(4))
    model = nn.Sequential(layer)
    with ts.capture(model, *where) as run:
        output = model(images(3, 4))
    assert [*run] == ["0_post_states"]
    np.testing.assert_array_equal(run[0].raw_states, expected_rows(output))


class Calls(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict({"act": nn.ReLU(), "act:2": nn.Linear(3, 2)})

    def forward(self, x):
        return self.layers["act:2"](self.layers["act"](self.layers["act"](x)))


class WithContainers(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.ReLU()])
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 2)})
        self.scales = nn.ParameterList([torch.ones(4, 4)])
        self.shifts = nn.ParameterDict({"a": torch.zeros(4, 4)})
        self.own = nn.Module()
        self.own.forward = lambda x: x + 1

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.heads["a"](self.own(x @ self.scales[0] + self.shifts["a"][0]))


@pytest.mark.parametrize("options", [{"attach_to": "*"}, {}])
def test_lists_and_dicts_are_no_layers(options):
    """Nothing calls them: they would stand in each report, as layers without states."""
    model = WithContainers()
    with ts.capture(model, **options) as run:
        model(images(3, 4))
    own = {"layers.1_post_states", "own_post_states"} if options else set()
    assert {*run} == {"layers.0_post_states", "heads.a_post_states"} | own
    assert all(point.state_count == 3 for point in run.values())


def test_a_layer_does_not_take_the_name_of_a_later_call():
    model = Calls()
    with pytest.raises(ValueError, match=r"'layers.act' and 'layers.act:2'.*merge_calls=True"):
        ts.build_efficiency_model(model, "*")
    with ts.capture(model, "*", exclude="layers", merge_calls=True) as run:
        model(images(4, 3))
    assert {name: point.neurons for name, point in run.items()} == {
        "layers.act_post_states": 3,
        "layers.act:2_post_states": 2,
    }


# Of what feeds the activation in the compiled model, the graph does not show the neurons.
@pytest.mark.filterwarnings("ignore:the neuron axis is a guess for 1_post_states .lost at tag_act")
def test_activation_checkpointing_does_not_change_names(tmp_path):
    """A capture goes on in a store, whether or not layers are checkpointed now."""
    plain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 4)))
    wrapped = nn.Sequential(checkpoint_wrapper(plain[0]), plain[1], checkpoint_wrapper(plain[2]))
    path = tmp_path / "run.zarr"
    for model in (plain, wrapped, torch.compile(wrapped, backend="eager")):
        with (
            ts.Store(path, "a") as store,
            ts.capture(model, "*", storage_path=store) as run,
        ):
            model(images(5, 4)).sum().backward()
        assert list(run) == [f"{name}_post_states" for name in ("0", "1", "2", "2.0")]
    assert {layer.instance_count for layer in ts.Store(path).values()} == {15}


def test_a_wrapper_that_is_the_model():
    layer = nn.Linear(4, 8)
    with ts.capture(checkpoint_wrapper(layer)) as run:
        run.labels([0] * 3)
        checkpoint_wrapper(layer)(images(3, 4))
    assert {name: point.state_count for name, point in run.items()} == {"Linear_post_states": 3}


def test_a_wrapper_stands_for_the_layer_in_it():
    checkpointed, compiled = checkpoint_wrapper(nn.Linear(4, 8)), nn.Linear(8, 4)
    compiled = torch.compile(compiled, backend="eager")
    model = nn.Sequential(checkpointed, compiled, nn.Linear(4, 4))
    for patterns, names in (
        ({"attach_to": checkpointed}, ["0"]),
        ({"attach_to": [compiled, "2"]}, ["1", "2"]),
        ({"exclude": (checkpointed, compiled)}, ["2"]),
    ):
        with ts.capture(model, **patterns) as run:
            pass
        assert list(run) == [f"{name}_post_states" for name in names]
