"""Layers that have seen other inputs than most, after passes that have failed, in reports."""

import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu.reporting.page.sentences import about_network
from tests.support.points import new_point, rows_of


class Failing(torch.nn.Module):
    """Its second layer is not reached in the passes that fail; its third runs now and then."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (torch.nn.Linear(8, 8) for _ in range(3))

    def forward(self, x, fails=False, skips=False):
        x = self.first(x)
        if fails:
            raise RuntimeError("the model")
        return self.second(x) if skips else self.third(self.second(x))


def run_of(passes, keep="counts", **options):
    """Captures passes of 10 inputs: "-" is a whole one, "f" fails, "s" skips a layer."""
    torch.manual_seed(0)
    model = ts.build_efficiency_model(Failing(), "Linear", keep=keep, **options)
    for kind in passes:
        x = torch.randn(10, 8)
        if kind == "f":
            with pytest.raises(RuntimeError, match="the model"):
                model(x, fails=True)
        else:
            model(x, skips=kind == "s")
    return ts.Run(model.efficiency_layers)


@pytest.mark.parametrize("passes", ["-f", "f-", "--f", "-f-", "f--f-"])
def test_layers_out_of_step_are_left_out(passes):
    run = run_of(passes)
    report = run.report()
    assert report.out_of_step == ("first_post_states",)
    others = [run[name].efficiency() for name in ("second", "third")]
    assert report.network_efficiency == ts.network_efficiency(others)
    seen, whole = (10 * number for number in (len(passes), passes.count("-")))
    told = f"out of step: it has seen {seen} inputs, others {whole}"
    assert "the geometric mean of 2 layers." in about_network(report)[0]
    summary = report.summary()
    assert ("first_post_states", f"{told}, and is not in the network efficiency") in summary
    ran = f"{passes.count('-')} of {len(passes)} passes, {passes.count('f')} failed"
    assert [text for _, text in summary if " passes" in text] == [ran, ran]
    asked = run.report(include_out_of_step=True)
    assert asked.network_efficiency == run.network_efficiency()
    assert "the geometric mean of 3 layers." in about_network(asked)[0]
    assert ("first_post_states", told) in asked.summary()
    assert report.layers == asked.layers


def test_layers_that_skip_passes_are_no_matter_of_steps():
    report = run_of("-s-ss").report()
    assert report.out_of_step == ()
    assert ("third_post_states", "2 of 5 passes") in report.summary()


def test_layers_that_skip_passes_beside_passes_that_fail():
    report = run_of("-s-ssf").report()
    assert report.out_of_step == ("first_post_states",)
    assert ("third_post_states", "2 of 6 passes, 1 failed") in report.summary()


@pytest.mark.parametrize("counts", [(20, 20, 15), (15, 20, 20), (20, 15), (15, 20, 15, 20)])
def test_layers_without_passes(counts):
    """Those of most layers are in step; of equally many, those of the fewest inputs."""
    run = ts.Run(new_point(name=f"{k}-{n}") for k, n in enumerate(counts))
    for number, point in zip(counts, run.values(), strict=True):
        point.append(rows_of(number), number)
    fewest = counts.count(15) >= counts.count(20)
    expected = tuple(name for name in run if name.endswith("-20" if fewest else "-15"))
    assert run.report().out_of_step == expected


def test_a_layer_that_is_called_twice_in_a_pass_is_in_step():
    run = ts.Run([new_point(name="one"), new_point(name="twice")])
    run["one"].append(rows_of(15), 15)
    run["twice"].append(rows_of(30), 30)
    assert run.report().out_of_step == ()


def test_layers_of_unknown_inputs_are_in_step():
    run = ts.Run([new_point(name="known"), ts.CapturePoint("experts")])
    run["known"].append(rows_of(15), 15)
    run["experts"].record(rows_of(7), 16, 1, ((0, -7),))
    report = run.report()
    assert (report.out_of_step, report["experts"].inputs) == ((), None)


def test_a_store_knows_of_passes_that_failed(tmp_path):
    run = run_of("-f-f-", keep="states", storage_path=tmp_path / "run.zarr")
    run.close()
    report = ts.Store(tmp_path / "run.zarr").report()
    assert report.out_of_step == ("first_post_states",)
    assert report.summary() == run.report().summary()
    assert report.as_dict()["layers"][0]["failed_passes"] == 2
    included = ts.Store(tmp_path / "run.zarr").report(include_out_of_step=True)
    assert included.network_efficiency == run.network_efficiency()


def test_inputs_that_layers_saw_in_passes_that_failed_are_told():
    """As long as they are counted, no number is that of all inputs."""
    with pytest.raises(ValueError, match="layers have seen different numbers of inputs"):
        run_of("-f-").instance_count  # noqa: B018
