"""What a page says about where its states are from, without being told."""

import copy
import pickle
import re

import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu.reporting.page.write import page_of


class Small(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))


def captured(*where, **how):
    torch.manual_seed(0)
    model = Small()
    with ts.capture(model, *where, **how) as run:
        model(torch.randn(50, 3))
    return run


def told(report):
    pairs = re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", page_of(report, "title", report.origin))
    return dict(pairs)


def test_build_of_a_loaded_framework(monkeypatch):
    """torch from PyPI is 2.13.0 for packaging, and 2.13.0+cu130 for itself."""
    monkeypatch.setattr(torch, "__version__", torch.__version__.partition("+")[0] + "+cu130")
    assert told(captured("Linear").report())["torch"].endswith("+cu130")


def test_of_a_run(tmp_path):
    store = str(tmp_path / "run.zarr")
    run = captured(
        ["Linear", torch.nn.ReLU],
        exclude="2",
        method="both",
        neuron_axis={"0": 1},
        threshold=0.5,
        storage_path=store,
    )
    found = told(run.report())
    expected = {
        "class of the model": f"{__name__}.Small",
        "attach_to": "Linear, ReLU",
        "exclude": "2",
        "method": "both",
        "keep": "states",
        "threshold": "0.5",
        "neuron_axis": "0: 1",
        "store": store,
        "number of inputs": "50",
        "torch": torch.__version__,
    }
    assert expected.items() <= found.items()
    assert "groups" not in found
    of_store = told(ts.Store(store).report())
    assert (of_store["store"], of_store["commits"]) == (store, "1")


def above_one(value: float) -> bool:
    return value > 1


def test_of_counts_by_a_function():
    found = told(captured(keep="counts", groups=8, firing=above_one).report())
    expected = {"attach_to": "layers with weights", "keep": "counts", "groups": "8"}
    assert (expected | {"firing": "above_one"}).items() <= found.items()
    assert "threshold" not in found


def test_of_many_thresholds():
    found = told(captured("0", threshold=[0.0, 0.25, 0.5, 1.0]).report())
    assert found["threshold"] == "0.0, 0.25, 0.5, 1.0"


def test_of_models_and_capture_points():
    model = ts.build_efficiency_model(Small(), "Linear", threshold=0.5)
    model(torch.randn(10, 3))
    found = told(ts.report(model))
    expected = {"class of the model": f"{__name__}.Small", "attach_to": "Linear"}
    assert (expected | {"threshold": "0.5"}).items() <= found.items()
    of_run = told(ts.Run(model.efficiency_layers).report())
    assert of_run == found | {"number of inputs": "10"}


def test_of_a_model_that_is_attached_to_again(tmp_path):
    """The layers are those of the last call; the options those that the kept points have."""
    model = ts.build_efficiency_model(Small(), "0", exclude="2", keep="counts")
    ts.build_efficiency_model(model, "Linear", keep="counts")
    model(torch.randn(10, 3))
    found = told(ts.report(model))
    assert (found["attach_to"], found["keep"]) == ("Linear", "counts")
    assert "exclude" not in found
    with ts.Store(tmp_path / "run.zarr", mode="a") as store:
        other = Small()
        with ts.capture(other, storage_path=store):
            other(torch.randn(10, 3))
    with (
        ts.Store(tmp_path / "run.zarr", mode="a") as store,
        pytest.warns(UserWarning, match="keep their other options"),
        pytest.raises(ValueError, match="2_post_states"),
    ):
        ts.build_efficiency_model(model, ["0", "1"], storage_path=store)
    assert told(ts.report(model)) == found


def test_what_is_given_is_told_first(tmp_path):
    page = tmp_path / "report.html"
    captured().report().to_html(page, origin={"data": "noise", "attach_to": "the rest"})
    text = page.read_text(encoding="utf-8")
    for name, value in {"data": "noise", "attach_to": "the rest", "method": "after"}.items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in text


@pytest.mark.parametrize("pickled", [False, True])
def test_it_stays_with_copies(pickled):
    run = captured()
    again = pickle.loads(pickle.dumps(run)) if pickled else copy.deepcopy(run)
    assert again.report().origin == run.report().origin
