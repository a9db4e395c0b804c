"""Tests that need a GPU: the order of streams, no waiting, real torch and other libraries.

They do not run on the stand-in. `make gpu` runs them, and fails if there is no GPU.
"""

import threading
import time

import cupy
import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import testing as oracle
from tensorstate_gpu.cuda import device
from tests.support.numba_cuda import not_run_without_older_numpy

torch = pytest.importorskip("torch")

LONG = 400_000_000  # clock cycles that a stream sleeps: a fifth of a second or more


def packed_on_the_host(x, axis=-1):
    bits = x.detach().to(torch.float32).cpu().numpy()
    return ts.compress_states(bits, neuron_axis=axis)


@pytest.fixture(scope="module", autouse=True)
def _warm():
    """Compile the kernels first: tests of order and waiting would otherwise measure that."""
    x = torch.zeros(1 << 14, 64, device="cuda")
    packed = ts.compress_states(x)
    ts.count_states(packed)
    ts.decompress_states(packed, 64)
    torch.cuda._sleep(1)
    torch.cuda.synchronize()


# ---- streams -----------------------------------------------------------------------------------


def delayed_write(stream):
    """Return an array of zeros that becomes ones only after a delay."""
    x = torch.zeros(1 << 14, 64, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(LONG)
        x.fill_(1)
    return x


def test_order_tests_detect_missing_waits():
    """Work on another stream that does not wait reads the zeros."""
    other = torch.cuda.Stream()
    with torch.cuda.stream(other):  # fills its memory pool
        ts.compress_states(torch.zeros(1 << 14, 64, device="cuda"))
    x = delayed_write(torch.cuda.Stream())
    with torch.cuda.stream(other):
        early = ts.compress_states(x)
        torch.cuda.current_stream().synchronize()
    assert not early.any()


def test_packing_waits_for_the_callers_stream():
    stream = torch.cuda.Stream()
    x = delayed_write(stream)
    with torch.cuda.stream(stream):
        packed = ts.compress_states(x)
        counts = ts.count_states(packed)
        assert (ts.decompress_states(packed, 64) == 1).all()
    assert counts.counts.tolist() == [1 << 14]
    assert counts.state_ids() == [b"\xff" * 8]


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_batches_of_many_streams(keep):
    """Each batch is written late, on a separate stream, and changed directly after the call."""
    hook = ts.StateCaptureHook("layer", keep=keep)
    layer = torch.nn.Identity()
    layer.register_forward_hook(hook)
    streams = [torch.cuda.Stream() for _ in range(4)]
    for stream in streams:
        x = delayed_write(stream)
        with torch.cuda.stream(stream):
            layer(x)
            x.fill_(-1)
    assert hook.histogram().state_ids() == [b"\xff" * 8]
    assert hook.counts().tolist() == [4 << 14]


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_many_threads_with_separate_streams(keep):
    hook = ts.StateCaptureHook("layer", keep=keep)
    layer = torch.nn.Identity()
    layer.register_forward_hook(hook)
    batches = [torch.randn(5000, 20, device="cuda") for _ in range(8)]
    torch.cuda.synchronize()

    def work(x):
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(20):
                layer(x)

    threads = [threading.Thread(target=work, args=(x,)) for x in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = np.concatenate([packed_on_the_host(x) for x in batches])
    distinct, counts = oracle.count(rows)
    np.testing.assert_array_equal(hook.histogram().packed, distinct)
    np.testing.assert_array_equal(hook.counts(), 20 * counts)


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_the_host_waits_for_nothing(keep):
    hook = ts.StateCaptureHook("layer", keep=keep)
    layer = torch.nn.Identity()
    layer.register_forward_hook(hook)
    x = torch.randn(100_000, 64, device="cuda").relu() > 1.5
    for batches in (5, 1):  # tables grow and pools fill; then rows in flight are stored
        torch.cuda._sleep(LONG)
        for _ in range(batches):
            layer(x)
        torch.cuda.synchronize()
    torch.cuda._sleep(10 * LONG)
    begun = time.perf_counter()
    for _ in range(3):
        layer(x)
    queued = time.perf_counter() - begun
    torch.cuda.synchronize()
    slept = time.perf_counter() - begun
    assert queued < slept / 4, (queued, slept)
    assert hook.state_count == 9 * 100_000
    assert hook.counts().sum() == 9 * 100_000


# ---- torch -------------------------------------------------------------------------------------


def network():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 20, 3),
        torch.nn.ReLU(inplace=True),
        torch.nn.Conv2d(20, 40, 3, stride=2),
        torch.nn.ReLU(inplace=True),
        torch.nn.Flatten(),
        torch.nn.Linear(40 * 6 * 6, 10),
    )


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("keep", ["states", "counts"])
def test_hooks(keep, dtype, memory_format):
    """The captured states are those that the model computed; its output is unchanged."""
    torch.manual_seed(0)
    model = network().to("cuda", dtype, memory_format=memory_format)
    x = torch.randn(9, 3, 16, 16, device="cuda", dtype=dtype)
    x = x.contiguous(memory_format=memory_format)
    original = model(x)
    seen = {}
    for name in ("0", "2", "5"):
        module = model.get_submodule(name)
        module.register_forward_hook(
            lambda _, __, y, name=name: seen.update({name: y.detach().clone()})
        )
    with ts.capture(model, ["Conv2d", "Linear"], keep=keep) as run:
        again = model(x)
        model(x)
    assert torch.equal(original, again)
    for name, y in seen.items():
        rows = packed_on_the_host(y, 1)
        distinct, counts = oracle.count(rows)
        point = run[f"{name}_post_states"]
        np.testing.assert_array_equal(point.histogram().packed, distinct)
        np.testing.assert_array_equal(point.counts(), 2 * counts)
        if keep == "states":
            np.testing.assert_array_equal(point.raw_states, np.concatenate([rows, rows]))


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_a_model_that_moves(keep):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 12))
    ts.build_efficiency_model(model, "Linear", keep=keep)
    x = torch.randn(100, 8)
    rows = [packed_on_the_host(model(x)), packed_on_the_host(model.cuda()(x.cuda()))]
    rows.append(packed_on_the_host(model.cpu()(x)))
    point = model.efficiency_layers[0]
    distinct, counts = oracle.count(np.concatenate(rows))
    np.testing.assert_array_equal(point.histogram().packed, distinct)
    np.testing.assert_array_equal(point.counts(), counts)


def test_arrays_of_other_frameworks():
    x = np.random.default_rng(0).normal(size=(100, 20)).astype(np.float32)
    expected = ts.compress_states(x)
    there = cupy.asarray(x)
    assert isinstance(ts.compress_states(there), cupy.ndarray)
    np.testing.assert_array_equal(cupy.asnumpy(ts.compress_states(there)), expected)
    result = ts.compress_states(torch.from_numpy(x).cuda())
    assert result.is_cuda
    np.testing.assert_array_equal(result.cpu().numpy(), expected)


def test_numbas_arrays():
    cuda = pytest.importorskip("numba.cuda")
    x = np.random.default_rng(0).normal(size=(100, 20)).astype(np.float32)
    packed = ts.compress_states(cuda.to_device(x))
    np.testing.assert_array_equal(cupy.asnumpy(packed), ts.compress_states(x))


def test_jax_arrays(monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax = pytest.importorskip("jax")
    gpus = [device for device in jax.devices() if device.platform == "gpu"]
    if not gpus:
        pytest.skip("this JAX knows no GPU")
    x = np.random.default_rng(0).normal(size=(100, 20)).astype(np.float32)
    packed = ts.compress_states(jax.device_put(x, gpus[0]))
    assert isinstance(packed, jax.Array)
    np.testing.assert_array_equal(np.asarray(packed), ts.compress_states(x))


def test_mixed_devices_raise():
    x = torch.zeros(3, 4, device="cuda")
    with pytest.raises(TypeError, match="threshold is on cpu, states are on cuda:0"):
        ts.compress_states(x, threshold=torch.zeros(4))
    with pytest.raises(TypeError, match="threshold is on cuda:0, states are on cpu"):
        ts.compress_states(x.cpu(), threshold=torch.zeros(4, device="cuda"))


# ---- firing= -----------------------------------------------------------------------------------

FUNCTIONS = {
    "far from zero": lambda x: abs(x) > 0.1,
    "a polynomial": lambda x: x * x - 0.1 > x + 0.3 * x,
    "branches": lambda x: x > 1 if x > 0 else x < -2,
    "not zero": lambda x: x != 0,
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int8", "int64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_user_functions(name, dtype):
    pytest.importorskip("numba_cuda")
    x = (torch.randn(3, 17, 5, 6) * 3).to(getattr(torch, dtype))
    x.view(-1)[:3] = torch.tensor([0.0, -0.0, 1e-40]).to(x.dtype)
    for array in (x, x.permute(2, 1, 0, 3)[:, :, ::2]):
        expected = ts.compress_states(array, neuron_axis=1, firing=FUNCTIONS[name])
        with not_run_without_older_numpy():
            found = ts.compress_states(array.cuda(), neuron_axis=1, firing=FUNCTIONS[name])
        assert torch.equal(found.cpu(), expected)


# ---- CUDA graphs ---------------------------------------------------------------------------------

STEPS, BATCH = 100, 128


class TwoLayers(torch.nn.Module):
    """Returns what both layers pass, so that it is known exactly."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.one = torch.nn.Sequential(torch.nn.Linear(64, 100), torch.nn.ReLU())
        self.two = torch.nn.Sequential(torch.nn.Linear(100, 20), torch.nn.ReLU())

    def forward(self, x):
        one = self.one(x)
        return one, self.two(one)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("stage_rows", [None, 5000])
def test_a_hundred_steps_of_reduce_overhead(stage_rows, training):
    """Exact with graphs that are split at each layer, and with graphs that append to stages."""
    from torch._dynamo.utils import counters

    counters.clear()
    model, seen = TwoLayers().cuda(), [[], []]
    call = torch.compile(model, mode="reduce-overhead")
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with (
        ts.capture(model, "ReLU", keep="counts", stage_rows=stage_rows) as run,
        torch.set_grad_enabled(training),
    ):
        for step in range(STEPS):
            torch.compiler.cudagraph_mark_step_begin()
            outputs = call(torch.randn(BATCH, 64, device="cuda"))
            for rows, output in zip(seen, outputs, strict=True):
                rows.append(packed_on_the_host(output))
            if training:
                optimizer.zero_grad()
                outputs[1].square().mean().backward()
                optimizer.step()
            if step % 20 == 0:
                run.drain()
        # Without stages the end of a pass has a graph of its own, with nothing for the device.
        assert counters["inductor"]["cudagraph_skips"] == (stage_rows is None)
        assert run.instance_count == STEPS * BATCH
    for point, rows in zip(run.values(), seen, strict=True):
        distinct, counts = oracle.count(np.concatenate(rows))
        np.testing.assert_array_equal(point.histogram().packed, distinct)
        np.testing.assert_array_equal(point.histogram().counts, counts)


@pytest.mark.parametrize("stage_rows", [None, 5000])
def test_kernels_of_a_replay(stage_rows):
    """What is captured in stages runs inside the graphs: the host queues no kernel of ours."""
    model = TwoLayers().cuda()
    call = torch.compile(model, mode="reduce-overhead")
    x = torch.randn(BATCH, 64, device="cuda")
    with ts.capture(model, "ReLU", keep="counts", stage_rows=stage_rows), torch.no_grad():
        for _ in range(5):
            torch.compiler.cudagraph_mark_step_begin()
            call(x)
        launched = []
        run = device.run
        device.run = lambda *launch: launched.append(launch) or run(*launch)
        try:
            torch.compiler.cudagraph_mark_step_begin()
            call(x)
        finally:
            device.run = run
    assert bool(launched) == (stage_rows is None)
