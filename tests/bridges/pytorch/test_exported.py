"""torch.export of captured models: programs without captures, which run anywhere."""

import io

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import images


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


@pytest.mark.filterwarnings("ignore:`isinstance\\(treespec:FutureWarning")  # by torch itself
@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_program_has_no_captures(strict):
    model = ts.build_efficiency_model(network(), "Linear", method="both")
    x = images(5, 4)
    program = torch.export.export(model, (x,), strict=strict)
    assert "tensorstate" not in str(program.graph)
    assert not program.constants
    program.run_decompositions()
    torch.testing.assert_close(program.module()(x), model(x))
    assert [point.instance_count for point in model.efficiency_layers] == 4 * [5]


def test_a_loaded_program_writes_into_no_layer():
    model = ts.build_efficiency_model(network(), "Linear")
    file = io.BytesIO()
    torch.export.save(torch.export.export(model, (images(5, 4),)), file)
    for point in model.efficiency_layers:
        assert point.state_count == 0
    file.seek(0)
    loaded = torch.export.load(file).module()
    loaded(images(32, 4)[:5])
    for point in model.efficiency_layers:
        assert point.state_count == 0


@pytest.mark.filterwarnings("ignore:`isinstance\\(treespec:FutureWarning")  # by torch itself
def test_what_runs_of_an_exported_program_can_be_captured():
    """Its module runs no layers, and an unflattened one does."""
    model, x = network(), images(5, 4)
    program = torch.export.export(model, (x,))
    flat, layers = program.module(), torch.export.unflatten(program)
    with ts.capture(flat, ["0"]) as run:
        flat(x)
    with pytest.raises(ts.errors.NothingCaptured):
        run.report()
    with ts.capture(layers, ["0"]) as run:
        layers(x)
    assert run[0].histogram() == ts.count_states(ts.compress_states(model[0](x).detach()), 3)
