"""What the kernels of packing and counting cost a thread, by their machine code.

Only a compiler is needed. For each layout: the instructions for each byte of activations, on the
way through the kernel that reads the most (of a loop that reads: one turn; not of counting, where
the rows decide which way is taken); the reads that are under way when the first is needed;
registers.
``python -m benchmarks.gpu.machine_code`` writes the results to a file that a
test compares, and python -m benchmarks.gpu.results some of them to the page. The file says which
compiler they are of: CUDA builds of torch bring one of their own.
"""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from tensorstate_gpu._arrays.elements import ELEMENT_TYPES
from tensorstate_gpu._arrays.layout import plan
from tensorstate_gpu._arrays.thresholds import firing_test
from tensorstate_gpu.cuda.launch import Launch, source_code
from tensorstate_gpu.cuda.pack import pack_launch
from tensorstate_gpu.cuda.wide_table import defines_for

FILE = Path(__file__).parents[1] / "results/gpu_machine_code.json"
ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")
DTYPES = ("float32", "bfloat16", "int8", "float8_e4m3fn")

# Name -> shape of the array, slices of it, axes in a new order, and the neuron axis.
LAYOUTS: dict[str, tuple[tuple[int, ...], tuple[slice, ...], tuple[int, ...], int]] = {
    "rows of 64": ((4096, 64), (), (), -1),
    "rows of 20": ((4096, 20), (), (), -1),
    "LM head, rows of 50257": ((512, 50257), (), (), -1),
    "query of qkv": ((4096, 2304), (slice(None), slice(0, 768)), (), -1),
    "ViT, x[:, 1:]": ((64, 197, 768), (slice(None), slice(1, None)), (), -1),
    "heads, (batch, heads, time, 64)": ((8, 128, 12, 64), (), (0, 2, 1, 3), -1),
    "pixels of 63 of 64 columns": ((4096, 64), (slice(None), slice(1, None)), (), -1),
    "NCHW 56 x 56": ((64, 256, 56, 56), (), (), 1),
    "NCHW 7 x 7": ((64, 512, 7, 7), (), (), 1),
}
COUNTED = (5, 8, 50, 63, 64, 128, 256, 512)  # bytes of a row


def launches() -> Iterator[tuple[str, Launch]]:
    """Each layout and number format, with the launch that packs it."""
    for name, (shape, slices, order, axis) in LAYOUTS.items():
        for dtype in DTYPES:
            yield f"{name}, {dtype}", launch_of(shape, slices, order, axis, dtype)
        if axis == -1:
            per_neuron = launch_of(shape, slices, order, axis, "float32", per_neuron=True)
            yield f"{name}, float32, thresholds", per_neuron
    for width in COUNTED:
        source = "count" if width <= 8 else "count_wide"
        defines = (("WIDTH", width),) if width <= 8 else defines_for(width)
        yield f"counting rows of {width} bytes", Launch(source, "count_rows", defines, (1, 1), ())


def launch_of(
    shape: tuple[int, ...],
    slices: tuple[slice, ...],
    order: tuple[int, ...],
    axis: int,
    dtype: str,
    per_neuron: bool = False,
) -> Launch:
    element = ELEMENT_TYPES[dtype]
    memory = np.lib.stride_tricks.as_strided(  # of no size: only its strides are looked at
        np.zeros(1, f"u{element.size}"), shape, np.cumprod((element.size, *shape[:0:-1]))[::-1]
    )
    part = memory[slices].transpose(order or range(memory.ndim))
    base = 1 << 20
    address = base + part.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
    layout = plan(part.shape, part.strides, element.size, axis)
    threshold: Any = [0.0] * layout.neurons if per_neuron else 0.0
    test = firing_test(element, threshold, layout.neurons)
    return pack_launch(address % 16, element, layout, test, base if per_neuron else 0)


# ---- compiling -----------------------------------------------------------------------------------


@cache
def compiler() -> str:
    """Return which compiler cubin() uses, such as "NVRTC 13.5"."""
    from cuda.bindings import nvrtc

    _, major, minor = nvrtc.nvrtcVersion()
    return f"NVRTC {major}.{minor}"


def cubin(source: str, defines: dict[str, int], architecture: str) -> bytes:
    """Compile a kernel file, as CuPy does."""
    from cuda.core import Program, ProgramOptions

    options = ProgramOptions(
        arch=architecture,
        std="c++17",
        ftz=True,
        define_macro=[(name, str(value)) for name, value in defines.items()] or None,
    )
    return bytes(Program(source_code(source), "c++", options).compile("cubin").code)


def cuobjdump(path: Path, *options: str) -> str:
    import nvidia

    tools = Path(next(iter(nvidia.__path__))) / "cu13" / "bin"
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    command = [str(tools / "cuobjdump"), *options, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def resources(path: Path) -> dict[str, dict[str, int]]:
    """Return for each kernel {"REG": 40, "STACK": 0, ...}."""
    found = re.findall(r"Function (\w+):\n(.*)", cuobjdump(path, "-res-usage"))
    return {
        kernel: {name: int(value) for name, value in re.findall(r"(\w+):(\d+)", words)}
        for kernel, words in found
    }


# ---- reading machine code ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Instruction:
    """``place``: its address. ``words``: without the condition, which ``condition`` is, or ""."""

    place: int
    condition: str
    words: str

    @property
    def name(self) -> str:
        return self.words.partition(" ")[0]

    @property
    def target(self) -> int:
        """Where a branch goes to."""
        return int(re.findall(r"0x[0-9a-f]+", self.words)[-1], 16)

    @property
    def read_bytes(self) -> int:
        """The bytes of activations that it reads; thresholds are read as constants."""
        return 0 if "CONSTANT" in self.name else self.bytes

    @property
    def bytes(self) -> int:
        """The bytes that it reads of global memory."""
        if not self.name.startswith("LDG"):
            return 0
        sizes = {"128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}
        return next((sizes[part] for part in self.name.split(".") if part in sizes), 4)

    @property
    def results(self) -> set[int]:
        """The registers that a read writes to."""
        first = int(re.findall(r"R(\d+)", self.words)[0])
        return set(range(first, first + max(1, self.read_bytes // 4)))


def instructions(path: Path) -> dict[str, list[Instruction]]:
    """Return the instructions of each kernel, in order."""
    found: dict[str, list[Instruction]] = {}
    line_pattern = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+) )?([A-Z].*?)\s*;")
    for part in cuobjdump(path, "-sass").split("Function : ")[1:]:
        kernel = part.split(maxsplit=1)[0]
        matches = line_pattern.findall(part)
        found[kernel] = [Instruction(int(at, 16), p, words) for at, p, words in matches]
    return found


def hot_path(code: list[Instruction]) -> list[Instruction]:
    """Return the way that reads the most, of those the shortest: through a loop that reads, if any.

    No instruction is there twice: a loop is passed once.
    """
    index = {instruction.place: number for number, instruction in enumerate(code)}
    widest = max(instruction.read_bytes for instruction in code)
    loops = [
        (index[i.target], number)
        for number, i in enumerate(code)
        if i.name == "BRA" and index.get(i.target, number) < number
    ]
    loops = [
        (first, last)
        for first, last in loops
        if any(i.read_bytes == widest for i in code[first : last + 1])
    ]
    all_of_it = (0, len(code) - 1)
    first, last = max(loops, key=lambda loop: _wide(code, *loop, widest), default=all_of_it)

    @cache
    def best(number: int) -> tuple[int, int, int | None]:
        """The bytes from an instruction on, minus the number of instructions, and the next one."""
        own = code[number]
        here = own.read_bytes if own.read_bytes == widest else 0
        after = []
        if own.name not in ("EXIT", "RET", "BRA") or own.condition:
            after.append(number + 1)
        if own.name == "BRA" and own.target in index:
            after.append(index[own.target])
        ways = [(*best(to)[:2], to) for to in after if number < to <= last]
        read, length, to = max(ways, default=(0, 0, None), key=lambda way: way[:2])
        return here + read, length - 1, to

    for number in range(last, first - 1, -1):  # from the end, so that no call goes deep
        best(number)
    path, at = [], first
    while at is not None:
        path.append(code[at])
        at = best(at)[2]
    return path


def _wide(code: list[Instruction], first: int, last: int, widest: int) -> int:
    return sum(i.read_bytes == widest for i in code[first : last + 1])


def in_flight(path: list[Instruction]) -> int:
    """Return how many of the widest reads are under way when the first of them is needed."""
    widest, waiting, most = max(i.read_bytes for i in path), {}, 0
    for instruction in path:
        used = {int(register) for register in re.findall(r"R(\d+)", instruction.words)}
        if instruction.read_bytes == widest:
            used -= instruction.results
            if not any(used & results for results in waiting.values()):
                waiting[instruction.place] = instruction.results
                most = max(most, len(waiting))
                continue
        waiting = {place: results for place, results in waiting.items() if not used & results}
    return most


def first_reads(code: list[Instruction]) -> list[Instruction]:
    """Return the reads of rows with which a kernel of counting begins.

    They come before it looks into the table, where other blocks may have just written.
    """
    reads = [instruction for instruction in code if instruction.bytes]
    rows = dropwhile(lambda read: "STRONG" in read.name, reads)
    return list(takewhile(lambda read: "STRONG" not in read.name, rows))


def measured(launch: Launch, architecture: str) -> dict[str, Any]:
    """Return the costs of a launch's kernel."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin(launch.source, dict(launch.defines), architecture))
        code = instructions(path)[launch.kernel]
        registers = resources(path)[launch.kernel]["REG"]
    if launch.kernel == "count_rows":
        reads = [read.bytes for read in first_reads(code)]
        widest = max(reads)  # the last row of all may be read in other ways
        said = {"instructions per byte": "-", "reads": f"{reads.count(widest)} x {widest}"}
        return {"kernel": launch.source, **said, "registers": registers}
    way = hot_path(code)
    widest = max(i.read_bytes for i in way)
    read = sum(i.read_bytes for i in way if i.read_bytes == widest)
    return {
        "kernel": launch.kernel,
        "instructions per byte": round(len(way) / read, 2),
        "reads": f"{in_flight(way)} x {widest}",
        "registers": registers,
    }


def recorded() -> tuple[str, dict[str, dict[str, Any]]]:
    """Return the compiler, and its costs by architecture and by layout and number format."""
    found = json.loads(FILE.read_text())
    return found["compiler"], found["costs"]


def table(architecture: str) -> list[list[str]]:
    """Rows for the page."""
    costs = recorded()[1][architecture]
    headings = ["layout", *next(iter(costs.values()))]
    rows = [[name, *map(str, cost.values())] for name, cost in costs.items()]
    return [headings, ["---"] * len(headings), *rows]


def main() -> None:
    costs = {
        architecture: {name: measured(launch, architecture) for name, launch in launches()}
        for architecture in ARCHITECTURES
    }
    FILE.write_text(json.dumps({"compiler": compiler(), "costs": costs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
