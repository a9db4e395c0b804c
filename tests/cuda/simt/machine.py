"""The CUDA kernels, compiled by g++ with sanitizers, as a device that needs no GPU.

The process must run with the address sanitizer's library preloaded: see preload().
"""

import ctypes
import hashlib
import os
import re
import subprocess
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path

import numpy as np

from tensorstate_gpu import cuda
from tensorstate_gpu._arrays import cupy_library
from tensorstate_gpu._arrays.dlpack import CUDA, Tensor
from tensorstate_gpu.cuda import device
from tensorstate_gpu.cuda.launch import KERNELS

HERE = Path(__file__).parent
BUILT = (
    HERE.parents[2] / ".pytest_cache/simt"
)  # by their content: nothing there is ever out of date
FLAGS = ["-std=c++17", "-O1", "-g1", "-shared", "-fPIC", "-Wall", "-Wno-unknown-pragmas"]
FLAGS += ["-Wno-unused-function", "-fno-strict-aliasing"]
FLAGS += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def preload():
    """Return environment variables with which the sanitizer also checks Python's own memory."""
    done = subprocess.run(
        ["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    return {"LD_PRELOAD": done.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}


@lru_cache
def compiler():
    return subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout


class Machine:
    """Compiles kernels, from the package or from modified copies, and runs launches.

    Its arrays are NumPy's: what CuPy's are to a GPU.
    """

    @staticmethod
    def to_device(array):
        return np.asarray(array).view(OnDevice)

    @staticmethod
    def to_host(array):
        return np.asarray(array)

    def __init__(self, kernels=KERNELS):
        self._kernels = kernels

    @lru_cache  # noqa: B019 a handful of machines in one test process
    def _library(self, source, defines):
        code = (self._kernels / f"{source}.cu").read_text()
        for header in self._kernels.glob("*.h"):
            if header.name != "device.h":
                code = code.replace(f'#include "{header.name}"\n', header.read_text())
        for name in re.findall(r"^KERNEL (\w+)\(", code, re.MULTILINE):
            code += (
                f'\nextern "C" void launch_{name}(u32 x, u32 y, void **arguments) {{'
                f"simt::launch({name}, dim3{{x, y, 1}}, arguments); }}\n"
            )
        options = [f"-D{name}={value}" for name, value in defines]
        command = ["g++", *FLAGS, *options, f"-I{HERE}"]
        known_by = "\n".join([code, (HERE / "device.h").read_text(), compiler(), *command])
        digest = hashlib.sha256(known_by.encode()).hexdigest()[:20]
        name = "-".join([source, *(f"{name}{value}" for name, value in defines), digest])
        library = BUILT / f"{name}.so"
        if not library.exists():
            BUILT.mkdir(parents=True, exist_ok=True)
            own = BUILT / f"{name}.{os.getpid()}.cpp"
            own.write_text(code)
            new = own.with_suffix(".so")
            # The compiler needs no sanitizer of its own.
            environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
            subprocess.run([*command, str(own), "-o", str(new)], check=True, env=environment)
            new.replace(library)
            own.unlink()
        return ctypes.CDLL(str(library))

    def run(self, launch):
        kernel = getattr(self._library(launch.source, launch.defines), f"launch_{launch.kernel}")
        values = [np.array(argument) for argument in launch.arguments]
        arguments = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        kernel(*launch.grid, arguments)

    def install(self, monkeypatch):
        """Make the CUDA backend run on this machine."""
        monkeypatch.setattr(device, "library", lambda: np)
        monkeypatch.setattr(device, "empty", poisoned)
        monkeypatch.setattr(cupy_library, "to_cupy", lambda array: array)
        for module in (cuda, device):
            monkeypatch.setattr(module, "to_host", np.array)
        monkeypatch.setattr(device, "OwnerStream", OnlyStream)
        monkeypatch.setattr(device, "AsyncHostCopy", LateCopy)
        monkeypatch.setattr(device, "address", lambda array: array.ctypes.data)
        monkeypatch.setattr(device, "multiprocessors", lambda: 2)
        monkeypatch.setattr(device, "run", self.run)

    def device_tensor(self, bits, element):
        """Return the tensor that borrow() would return."""
        return Tensor((bits,), bits.ctypes.data, bits.shape, bits.strides, element, (CUDA, 0))


class OnlyStream:
    """A stream on which all work runs in order."""

    def entered(self):
        return nullcontext()


class LateCopy:
    """A copy that has not arrived when it is first asked for."""

    def __init__(self, array):
        self._copy, self._asked = np.array(array), 0

    @property
    def has_arrived(self):
        self._asked += 1
        return self._asked > 1

    def numpy(self):
        return self._copy


def poisoned(shape, dtype):
    """Allocate memory of exactly this size, aligned as in CUDA, filled with garbage."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.full(size, 0xA5, np.uint8)
    assert memory.ctypes.data % 16 == 0
    return memory.view(dtype).reshape(shape).view(OnDevice)


class OnDevice(np.ndarray):
    """An array that reports a GPU as its device."""

    def __dlpack_device__(self):
        return CUDA, 0
