"""Options: stated once, shown where users look, and passed on whole."""

import dataclasses
import inspect
import pickle

import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu._capturing.options import CaptureKeywords, CaptureOptions

KEYWORDS = set(CaptureKeywords.__annotations__)
TAKING = [ts.capture, ts.build_efficiency_model, ts.CapturePoint, ts.StateCaptureHook]


def test_keywords_are_the_fields_but_for_the_path_and_the_run():
    fields = {field.name for field in dataclasses.fields(CaptureOptions)}
    assert fields == KEYWORDS | {"disk_path", "run"}


@pytest.mark.parametrize("function", TAKING, ids=lambda function: function.__name__)
def test_signatures_show_every_option(function):
    parameters = inspect.signature(function).parameters
    assert parameters.keys() >= KEYWORDS
    assert not {"kwargs", "keywords"} & parameters.keys()
    assert parameters["keep"].default == "states"


@pytest.mark.parametrize("function", TAKING, ids=lambda function: function.__name__)
def test_an_unknown_option_names_those_there_are(function):
    model = torch.nn.Linear(2, 2)
    arguments = (model, "Linear") if inspect.isfunction(function) else ("layer",)

    def use():
        function(*arguments, typo=1).__enter__()  # capture() begins there

    with pytest.raises(TypeError, match=r"unknown option 'typo'; there are keep, threshold,"):
        use()
    assert not model._forward_hooks


def test_options_reach_every_capture_point_whole():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    with ts.capture(model, ["Linear", "ReLU"], keep="counts", threshold=0.5) as run:
        first, second = run.efficiency_layers
    assert first.options is second.options
    assert first.options == CaptureOptions(keep="counts", threshold=0.5)


def test_options_cannot_be_changed_and_travel_with_a_store_that_is_read(tmp_path):
    point = ts.CapturePoint("layer", tmp_path / "run", threshold=[0.5, 1])
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.options.threshold = 0
    copy = pickle.loads(pickle.dumps(point))
    assert str(copy.disk_path) == str(tmp_path / "run")
    assert copy.options == CaptureOptions(threshold=(0.5, 1), disk_path=copy.disk_path)
