"""Graphs that torch.compile makes of models on a GPU; what it would generate needs a real one."""

from contextlib import nullcontext

import numpy as np
import pytest

import tensorstate_gpu as ts
from tests.cuda.cases.streams import assert_counts, packed

torch = pytest.importorskip("torch")


@pytest.mark.long  # to import the compiler takes seconds
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`")  # by torch
@pytest.mark.parametrize("keep", ["states", "counts"])
def test_compiled_models(on_cuda, keep):
    """One graph of the model and its captures, for batches of two streams, overwritten at once."""
    model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Tanh())
    other, rows, inputs = torch.cuda.Stream(), [], 0
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with ts.capture(model, attach_to="*", keep=keep, neuron_axis=1) as run:
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        for seed in range(12):
            values = torch.randn(60, 64, generator=torch.Generator().manual_seed(seed % 5))
            with torch.cuda.stream(other) if seed % 3 == 2 else nullcontext():
                x = on_cuda(values)
                result = compiled(x)
                x.fill_(float("nan"))
                assert result.is_cuda
                assert torch.equal(result.cpu(), torch.tanh(torch.relu(values)))
            rows.append(packed(values))
            inputs += len(values)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
        for point in run.values():
            assert_counts(point.histogram(), np.concatenate(rows))
            assert point.instance_count == inputs
            if keep == "states":
                np.testing.assert_array_equal(point.raw_states, np.concatenate(rows))
