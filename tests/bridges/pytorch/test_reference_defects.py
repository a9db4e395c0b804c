"""Defects of TensorState 0.4 that its users met: each is one test here, named after the defect."""

import subprocess
import sys
import textwrap
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu._layers.chunked_buffer import CHUNK_BYTES
from tests.support.torch_models import expected_rows, hooks_of, images


def run_alone(program: str, *arguments: object) -> str:
    """What a program prints in a process of its own; it must end well."""
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_rows_lost_when_a_batch_exceeds_one_chunk(where, tmp_path):
    width = 1024
    chunk = CHUNK_BYTES // width
    rows = 2 * chunk + 17
    x = torch.arange(rows, dtype=torch.int32)[:, None] >> torch.arange(8 * width) % 16 & 1
    path = tmp_path / "states" if where == "disk" else None
    layer = nn.Identity()
    with ts.capture(layer, "Identity", storage_path=path) as run:
        for part in (x[:5], x[5:]):
            layer(part)
    (point,) = run.efficiency_layers
    assert point.state_count == rows
    np.testing.assert_array_equal(point.raw_states, expected_rows(x))
    assert len(point.histogram()) == rows


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_the_store_written_by_four_threads(where, tmp_path):
    layer, failures = nn.Identity(), []
    # 64 KiB a batch: chunks fill while other threads write.
    batches = [torch.full((1024, 512), 0.0).index_fill(1, torch.arange(k), 1) for k in range(4)]
    path = tmp_path / "states" if where == "disk" else None

    def work(batch: torch.Tensor) -> None:
        try:
            for _ in range(50):
                layer(batch)
        except BaseException as error:
            failures.append(error)

    with ts.capture(layer, "Identity", storage_path=path) as run:
        threads = [threading.Thread(target=work, args=(batch,)) for batch in batches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    point = run["Identity_post_states"]
    # All four sorts of rows in equal number, and the rows of a batch together.
    assert point.counts().tolist() == [50 * 1024] * 4
    together = point.raw_states.reshape(200, 1024, 64)
    assert (together == together[:, :1]).all()


def test_before_hooks_fail_on_pytorch():
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten(), nn.Linear(75, 4))
    x = images(5, 1, 6, 6)
    ts.build_efficiency_model(model, ["Conv2d", "Linear"], method="before")
    output = model(x)
    first, second = model.efficiency_layers
    np.testing.assert_array_equal(first.raw_states, expected_rows(x, 1))
    np.testing.assert_array_equal(second.raw_states, expected_rows(model[:2](x)))
    assert output.shape == (5, 4)


def test_all_user_hooks_cleared_on_removal():
    model, calls = nn.Sequential(nn.Linear(3, 4)), []
    model[0].register_forward_hook(lambda *_: calls.append("after"))
    model[0].register_forward_pre_hook(lambda *_: calls.append("before"))
    ts.build_efficiency_model(model, "Linear", method="both")
    ts.remove_state_layers(model)
    model(images(2, 3))
    assert calls == ["before", "after"]
    assert len(hooks_of(model)) == 2


@pytest.mark.parametrize("layout", ["2-D", "channels_last"])
def test_states_corrupted_by_later_in_place_operations(layout):
    if layout == "2-D":
        layer, x = nn.Linear(3, 9), images(20, 3)
    else:
        layer, x = nn.Conv2d(3, 9, 1), images(4, 3, 5, 5).to(memory_format=torch.channels_last)
        layer = layer.to(memory_format=torch.channels_last)
    expected = expected_rows(layer(x), 1)
    with torch.no_grad(), ts.capture(layer, type(layer).__name__) as run:
        output = layer(x)
        output.neg_()
    (point,) = run.efficiency_layers
    np.testing.assert_array_equal(point.raw_states, expected)
    assert not np.array_equal(expected_rows(output, 1), expected)


def test_cupy_installed_without_a_gpu_breaks_sort(tmp_path):
    # CuPy's own behaviour there: it imports, and every call of the driver raises.
    package = tmp_path / "cupy"
    package.mkdir()
    (package / "__init__.py").write_text(
        "class ndarray: pass\n"
        "def __getattr__(name):\n"
        "    if name.startswith('__'): raise AttributeError(name)\n"
        "    raise RuntimeError('cudaErrorNoDevice: no CUDA-capable device is detected')\n"
    )
    program = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import cupy
        import numpy as np
        import tensorstate_gpu as ts
        edges, index = ts.sort_states(np.array([[3], [0], [3]], np.uint8))
        print(edges.tolist(), index.tolist())
    """
    assert run_alone(program, tmp_path) == "[0, 1, 3] [1, 0, 2]\n"


class ModelOutput(OrderedDict[str, Any]):
    """As in Hugging Face's transformers: an ordered dict that is a dataclass too."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None:
                self[name] = value


@dataclass
class BaseModelOutput(ModelOutput):
    last_hidden_state: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)

    def forward(self, hidden_states: torch.Tensor, mask: Any = None) -> tuple[Any, ...]:
        attended = self.attention(query=hidden_states, key=hidden_states, value=hidden_states)[0]
        return self.norm(attended), None


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    def forward(self, hidden_states: torch.Tensor) -> BaseModelOutput:
        return BaseModelOutput(self.block(hidden_states=hidden_states)[0])


@pytest.mark.filterwarnings("ignore::tensorstate_gpu.errors.GuessedAxisWarning")
def test_hugging_face_models_raise_unbound_local_error():
    model = nn.Sequential()
    model.encoder = Encoder()
    with ts.capture(model, ["encoder", "*block", "*attention"], method="both") as run:
        output = model.encoder(hidden_states=images(3, 7, 8))
    assert len(run) == 6
    for point in run.efficiency_layers:
        assert (point.instance_count, point.state_count, point.neurons) == (3, 21, 8)
    rows = expected_rows(output.last_hidden_state)
    np.testing.assert_array_equal(run["encoder_post_states"].raw_states, rows)


def test_any_current_keras_unsupported():
    """Ours is: the cases of Keras. What only looks like a model of Keras is refused."""

    class Functional:
        __module__ = "keras.src.models.functional"

    model = Functional()
    message = r"must be a Keras model or a torch.nn.Module, got Functional"
    with pytest.raises(TypeError, match=message):
        ts.build_efficiency_model(model, "Dense")
    assert vars(model) == {}


def test_batch_token_channel_outputs_misread():
    layer, x = nn.Linear(4, 9), images(3, 7, 4)
    with ts.capture(layer, "Linear") as run:
        output = layer(x)
    (point,) = run.efficiency_layers
    assert (point.neurons, point.states_per_instance()) == (9, 7)
    np.testing.assert_array_equal(point.raw_states, expected_rows(output.reshape(21, 9)))


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is POSIX")
def test_pre_padded_reads_past_the_end_of_the_input():
    program = """
        import ctypes, mmap
        import numpy as np
        import torch
        import tensorstate_gpu as ts
        from tensorstate_gpu import testing

        # One page, and behind it one that may not be touched.
        page = mmap.PAGESIZE
        memory = mmap.mmap(-1, 2 * page)
        guard = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + page
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(guard), page, 0) == 0
        layer = torch.nn.Identity()
        for neurons in range(1, 80):
            x = np.ndarray((3, neurons), np.float32, memory, page - 12 * neurons)
            x[:] = np.random.default_rng(neurons).standard_normal(x.shape)
            with ts.capture(layer, "Identity") as run:
                layer(torch.from_numpy(x))
            rows = run["Identity_post_states"].raw_states
            assert np.array_equal(rows, testing.compress(x)), neurons
            unused = -neurons % 8  # the padding is in the result, and it is zero
            assert not unused or (rows[:, -1] >> (8 - unused) == 0).all()
        print("survived")
    """
    assert run_alone(program) == "survived\n"
