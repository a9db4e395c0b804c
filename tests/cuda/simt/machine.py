"""Compiles the CUDA kernels by g++, with sanitizers, and runs them on a CPU.

The process must run with the address sanitizer's library preloaded: see preload().
"""

import ctypes
import hashlib
import os
import re
import subprocess
from functools import lru_cache
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
BUILT = (
    HERE.parents[2] / ".pytest_cache/simt"
)  # by their content: nothing there is ever out of date
FLAGS = ["-std=c++17", "-O1", "-g1", "-shared", "-fPIC", "-Wall", "-Wno-unknown-pragmas"]
FLAGS += ["-Wno-unused-function", "-fno-strict-aliasing"]
FLAGS += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def preload():
    """Return environment variables with which the sanitizer also checks Python's own memory.

    The library of C++ comes along: else the sanitizer ends the process where torch throws an error.
    """
    command = ["g++", "-print-file-name=libasan.so"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    libraries = f"{done.stdout.strip()} libstdc++.so.6"
    return {"LD_PRELOAD": libraries, "ASAN_OPTIONS": "detect_leaks=0"}


@lru_cache
def compiler():
    return subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout


@lru_cache
def fibers():
    """Load what all kernels call."""
    return ctypes.CDLL(built("fibers", (HERE / "fibers.cpp").read_text()), ctypes.RTLD_GLOBAL)


@lru_cache
def compiled(code, defines):
    """Return a library with the kernels of a file, each as launch_<name>(), for launch()."""
    fibers()
    _, *kernels = re.split(r"^(?:LARGE_)?KERNEL ", code, flags=re.MULTILINE)
    names = [kernel.partition("(")[0] for kernel in kernels]
    for name, body in zip(names, kernels, strict=True):
        # Shared variables, unlike SHARED_BYTES, are the same memory for all blocks here.
        together = 1 if re.search(r"\bSHARED\b", body) else 2
        code += (
            f'\nextern "C" void launch_{name}(u32 x, u32 y, u32 threads, u32 shared, void **all)'
            f"{{ simt::run([](void **all) {{ simt::call({name}, all); }}, all, dim3{{x, y, 1}},"
            f" threads, shared, {together}); }}\n"
        )
    title = "-".join([names[0], *(define.removeprefix("-D") for define in defines)])
    return ctypes.CDLL(built(title, code, defines))


def built(title, code, defines=()):
    """The path of the library of a source; compiled once, by whichever process needs it first."""
    command = ["g++", *FLAGS, *defines, f"-I{HERE}"]
    headers = [header.read_text() for header in sorted(HERE.glob("*.h"))]
    known_by = "\n".join([code, *headers, compiler(), *command])
    name = f"{title}-{hashlib.sha256(known_by.encode()).hexdigest()[:20]}"
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
    return str(library)


def launch(kernel, grid, threads, shared_bytes, arguments):
    """Run a kernel of compiled()."""
    values = [np.array(argument) for argument in arguments]
    addresses = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
    kernel(*grid, threads, shared_bytes, addresses)
