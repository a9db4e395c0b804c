"""CUDA graphs, on the simulated CUDA: what may not be recorded, and what a recording forbids."""

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._arrays.cupy_library import SecondTry
from tests.cuda.cases.simulated import LABELS, Layer, cached
from tests.cuda.cases.streams import packed
from tests.cuda.simulated.memory import TORCH, alloc_pinned_memory
from tests.cuda.simulated.scheduler import GPU

torch = pytest.importorskip("torch")


@pytest.fixture(params=["states", "counts"])
def layer(request, on_cuda):
    return Layer(on_cuda, request.param)


FUNCTIONS = {
    "compress_states": lambda x, rows: ts.compress_states(x),
    "decompress_states": lambda x, rows: ts.decompress_states(rows, 64),
    "popcount": lambda x, rows: ts.popcount(rows),
    "sort_states": lambda x, rows: ts.sort_states(rows),
    "count_states": lambda x, rows: ts.count_states(rows),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_array_functions_refuse_to_be_recorded(on_cuda, name):
    """Replays would overwrite what they returned."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        x = on_cuda(torch.randn(30, 64))
        rows = ts.compress_states(x)
        GPU.capturing[stream.key] = []
        with pytest.raises(RuntimeError, match="in a CUDA graph: call it before the graph"):
            FUNCTIONS[name](x, rows)
        GPU.capturing.clear()
        FUNCTIONS[name](x, rows)


def test_hooks_refuse_to_be_recorded(on_cuda, layer):
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        layer(0)
        GPU.capturing[stream.key] = []
        with pytest.raises(ts.errors.NotCapturable, match="in a CUDA graph"):
            layer(1)
        GPU.capturing.clear()
        layer(2)
    layer.check()


@pytest.mark.parametrize("batches", [3, 10])  # some wait to be counted together
@pytest.mark.parametrize("read", ["histogram", "counts_by"])
def test_counts_are_not_read_while_their_stream_is_recorded(on_cuda, read, batches):
    """What reading them queues would run in replays only."""
    layer, stream = Layer(on_cuda, "counts"), torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for seed in range(batches):
            layer(seed)
    GPU.capturing[stream.key] = recorded = []
    with pytest.raises(RuntimeError, match="or read in a CUDA graph"):
        getattr(layer.hook, read)()
    with torch.cuda.stream(torch.cuda.Stream()), pytest.raises(RuntimeError, match="CUDA graph"):
        layer(batches)
    assert not recorded
    GPU.capturing.clear()
    layer.check()


def test_counts_are_not_read_on_a_stream_that_is_recorded(machine, on_cuda):
    """The stream to which they belong would become a part of the recording."""
    layer, stream = Layer(on_cuda, "counts"), machine.library.cuda.Stream(non_blocking=True)
    layer(0)
    with stream:
        GPU.capturing[stream.key] = recorded = []
        with pytest.raises(RuntimeError, match="or read in a CUDA graph"):
            layer.hook.histogram()
    assert not recorded
    GPU.capturing.clear()
    layer.check()


@pytest.mark.parametrize("batches", [1, 3])
def test_layers_are_captured_while_another_thread_records(layer, batches):
    """In CUDA's global mode, which is the default, the host may not ask how far the device is."""
    other = torch.cuda.Stream()
    spare = [alloc_pinned_memory(len(LABELS) * 13) for _ in range(8)]  # of 100 neurons
    del spare
    for seed in range(3):  # on their way
        layer(seed)
    for seed in range(3, 3 + batches):
        GPU.capturing[other.key] = recorded = []
        layer(seed)
        GPU.capturing.clear()
        assert not recorded
    layer.check()


def test_a_graph_that_another_thread_records_is_not_broken(on_cuda):
    """As it would be by giving memory back to the device, of which torch has cached enough."""
    values = torch.randn(1000, 64)
    x = on_cuda(values)
    cached(TORCH, 1 << 24)
    GPU.capturing[torch.cuda.Stream().key] = []
    with pytest.raises(MemoryError, match="no room on the GPU"):
        ts.compress_states(x)
    assert TORCH.cached == 1 << 24
    GPU.capturing.clear()
    np.testing.assert_array_equal(ts.compress_states(x).cpu().numpy(), packed(values))


def test_caches_are_not_emptied_while_their_stream_is_recorded(machine):
    """It would break the recording."""
    stream, emptied = machine.library.cuda.Stream(non_blocking=True), []

    def take():
        raise MemoryError("full")

    second_try = SecondTry(take, (lambda: emptied.append(True) or True,))
    GPU.capturing[stream.key] = []
    with stream, pytest.raises(MemoryError):
        second_try()
    assert not emptied
    GPU.capturing.clear()
    with stream, pytest.raises(MemoryError):
        second_try()
    assert emptied
