"""List a wheel, and fail unless it is universal, typed, and holds the package and nothing else."""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "tensorstate_gpu": "tensorstate_gpu",
    "tensorstate_gpu/cuda": "tensorstate_gpu/cuda",
    "tensorstate_gpu/store": "tensorstate_gpu/store",
    "bridges": "tensorstate_gpu/bridges",
    "cpu_fallback": "tensorstate_gpu/cpu_fallback",
}


def faults(wheel: Path) -> list[str]:
    """Everything that is wrong with the wheel, in words."""
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in sorted(names):
        print("  ", name)
    found = []
    if not wheel.name.endswith("py3-none-any.whl"):
        found.append(f"not universal: {wheel.name}")
    tops = {name.split("/")[0] for name in names}
    extra = {top for top in tops if top != "tensorstate_gpu" and not top.endswith(".dist-info")}
    if extra:
        found.append(f"at the top level of the wheel: {sorted(extra)}")
    wanted = {"tensorstate_gpu/py.typed"}
    for room, place in ROOMS.items():
        wanted |= {f"{place}/{source.name}" for source in (ROOT / room).glob("*.py")}
    kernels = (ROOT / "tensorstate_gpu/cuda/kernels").iterdir()
    wanted |= {f"tensorstate_gpu/cuda/kernels/{kernel.name}" for kernel in kernels}
    code = {name for name in names if name.endswith((".py", "py.typed"))}
    if missing := wanted - names:
        found.append(f"missing: {sorted(missing)}")
    if stray := code - wanted:
        found.append(f"not in the source tree: {sorted(stray)}")
    if not any(name.endswith("/licenses/LICENSE") for name in names):
        found.append("no licence")
    return found


if __name__ == "__main__":
    problems = faults(Path(sys.argv[1]))
    for problem in problems:
        print("wheel:", problem, file=sys.stderr)
    sys.exit(bool(problems))
