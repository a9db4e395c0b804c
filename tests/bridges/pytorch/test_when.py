"""when=: which passes of a model are captured."""

import pickle

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import images


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 2))


def train_and_evaluate(model, forward=None):
    for _ in range(2):
        model.train()
        (forward or model)(images(3, 4))
        model.eval()
        (forward or model)(images(2, 4))


@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize(("when", "inputs"), [("train", 6), ("eval", 4), (None, 10)])
def test_passes_of_one_mode(when, inputs, keep):
    model = network()
    with ts.capture(model, "*", when=when, keep=keep) as run:
        train_and_evaluate(model)
    assert run.instance_count == inputs


def test_the_mode_is_that_of_the_model_not_of_its_layers():
    model = network()
    with ts.capture(model, "Linear", when="train") as run:
        model.train()
        model[0].eval()
        model(images(3, 4))
        model.eval()
        model[0].train()
        model(images(2, 4))
    assert run.instance_count == 3


def test_a_function_is_called_once_per_pass():
    model, asked = network(), []

    def every_second(root):
        asked.append(root)
        return len(asked) % 2 == 0

    with ts.capture(model, "*", when=every_second) as run:
        for size in (1, 2, 4, 8):
            with run.labels([size] * size):
                model(images(size, 4))
    assert len(asked) == 4
    assert all(root is model for root in asked)
    assert run.instance_count == 10
    assert list(run["1_post_states"].counts_by()) == [2, 8]


def test_labels_of_the_next_pass_end_with_a_pass_that_is_not_captured():
    model = network()
    with ts.capture(model, "Linear", when="eval") as run:
        run.labels([0, 0, 0])
        model.train()(images(3, 4))
        model.eval()(images(2, 4))
    with pytest.raises(ts.errors.LabelsMissing, match="2 of 2 instances"):
        run["0_post_states"].counts_by()


def test_many_passes_before_the_first_that_counts_are_no_examples():
    model = network().train()
    with ts.capture(model, "Linear", when="eval") as run, run.labels([0, 1]):
        for _ in range(12):
            model(images(2, 4))
        model.eval()(images(2, 4))
    assert {label: c.total for label, c in run["0_post_states"].counts_by().items()} == {0: 1, 1: 1}


def test_a_compiled_model():
    model = network()
    compiled = torch.compile(model, backend="eager")
    with ts.capture(model, "Linear", when="eval") as run:
        train_and_evaluate(model, compiled)
    assert run.instance_count == 4


def test_build_efficiency_model_and_copies():
    model = ts.build_efficiency_model(network(), "Linear", when=lambda root: not root.training)
    train_and_evaluate(model)
    run = ts.Run(model.efficiency_layers)
    assert run.instance_count == 4
    assert pickle.loads(pickle.dumps(run)).instance_count == 4
    ts.remove_state_layers(model)
    assert not any(module._forward_hooks for module in model.modules())


def test_mistakes():
    with pytest.raises(ValueError, match=r"when must be one of \('train', 'eval'\) or a function"):
        ts.capture(network(), "Linear", when="test").__enter__()
    with pytest.raises(ValueError, match="when= and mask= are about the passes of a model"):
        ts.StateCaptureHook("by hand", when="train").attach(nn.Linear(2, 2))
