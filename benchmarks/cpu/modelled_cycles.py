"""How long the kernels' inner loops take on processors that are not here, by LLVM's models of them.

``python -m benchmarks.cpu.modelled_cycles`` prints, for each kernel and each processor, how many
bytes of activations an inner loop reads in a cycle, if all of them are in the first-level cache.
That is the most a core can do. llvm-mca computes it from what LLVM knows of a processor: how many
cycles each instruction takes, and which units carry it out. Memory, caches, branches and what is
outside the inner loop are not in it. Needs llvm-mca (Debian: llvm-19), of LLVM 17 or later.
"""

import re
import shutil
import subprocess
import sys

from benchmarks.cpu import instructions

# LLVM's names for processors, and the vectors for which the code is made.
PROCESSORS = {
    "Intel Skylake-SP": ("skylake-avx512", "AVX-512"),
    "Intel Ice Lake-SP": ("icelake-server", "AVX-512"),
    "Intel Sapphire Rapids": ("sapphirerapids", "AVX-512"),
    "Intel Haswell": ("haswell", "AVX2"),
    "AMD Zen 3": ("znver3", "AVX2"),
    "AMD Zen 4": ("znver4", "AVX-512"),
    "ARM Neoverse V1": ("neoverse-v1", "NEON"),
}
ROUNDS = 1000
TRIPLES = {"NEON": "aarch64", "AVX2": "x86_64", "AVX-512": "x86_64"}


def find_model() -> str | None:
    """The newest llvm-mca on the path."""
    names = ["llvm-mca", *(f"llvm-mca-{version}" for version in range(17, 30))]
    return next((path for name in reversed(names) if (path := shutil.which(name))), None)


def cycles(program: str, loop: list[str], processor: str, width: str) -> float:
    """Cycles that a round of a loop takes, in the long run."""
    options = [f"-mtriple={TRIPLES[width]}", f"-mcpu={processor}", f"-iterations={ROUNDS}"]
    code = "\n".join(loop) + "\n"
    done = subprocess.run(
        [program, *options], input=code, capture_output=True, text=True, check=True
    )
    found = re.search(r"^Total Cycles:\s+(\d+)", done.stdout, re.M)
    assert found is not None, done.stdout
    return int(found[1]) / ROUNDS


def bytes_per_cycle(program: str, name: str, processor: str, width: str) -> float:
    """Bytes of activations that a packing kernel reads in a cycle."""
    kernel, signature, sign, bits = instructions.KERNELS[name]
    assembly = instructions.machine_code(kernel.py_func, signature, width)
    times, loop = instructions.widest_loop(assembly, sign, bits)
    size = 2 if "float16" in name else 4
    return 64 * size * times / cycles(program, loop, processor, width)


def main() -> None:
    program = find_model()
    if program is None or not instructions.on_x86():
        sys.exit("needs llvm-mca of LLVM 17 or later (Debian: llvm-19), on an x86 processor")
    print("| |", " | ".join(PROCESSORS), "|")
    print("|---|" + "---|" * len(PROCESSORS))
    for name in instructions.KERNELS:
        if name == "unpack":
            continue
        found = [bytes_per_cycle(program, name, *each) for each in PROCESSORS.values()]
        print(f"| {name} |", " | ".join(f"{each:.0f}" for each in found), "|")


if __name__ == "__main__":
    main()
