"""What the stages write, and the table that is made of it."""

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.gpu import machine_code
from benchmarks.harness.processors import commit
from benchmarks.harness.tables import _between, _markdown
from tensorstate_gpu._arrays.cupy_library import library

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "benchmarks/results"
CODE = ROOT / "tensorstate_gpu/cuda"
PACKAGES = ("torch", "cupy-cuda13x", "cupy-cuda12x", "numba", "numba-cuda", "jax", "numpy")


def machine() -> dict[str, Any]:
    """The device in CuPy's words, and what ran there.

    Raises ImportError without CuPy, RuntimeError without a GPU.
    """
    cupy: Any = library()
    runtime = cupy.cuda.runtime
    gpu = runtime.getDeviceProperties(0)
    words = {
        "gpu": gpu["name"].decode(),
        "multiprocessors": gpu["multiProcessorCount"],
        "memory": f"{gpu['totalGlobalMem'] / 2**30:.0f} GiB",
        "driver": runtime.driverGetVersion(),
        "cuda": runtime.runtimeGetVersion(),
        "python": platform.python_version(),
        "commit": commit(),
    }
    return words | {name: found for name in PACKAGES if (found := _version(name))}


def code() -> dict[str, str]:
    """A hash of each kernel and of each module that launches them."""
    return {
        path.relative_to(CODE).as_posix(): hash_of(path)
        for path in sorted(CODE.rglob("*"))
        if path.suffix in (".cu", ".h", ".py")
    }


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def changed_files(found: dict[str, Any]) -> list[str]:
    """Which files of the code have changed since something was measured."""
    then, now = found["code"], code()
    return sorted(name for name in then | now if then.get(name) != now.get(name))


def changed_since(found: dict[str, Any]) -> str:
    """The same in words for the page."""
    changed = changed_files(found)
    if not changed:
        return "Measured with the code as it is."
    return f"Measured before the last change of {', '.join(f'`{name}`' for name in changed)}."


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def folder() -> Path:
    """Where results go: benchmarks/results, or what TENSORSTATE_GPU_RESULTS names."""
    found = Path(os.environ.get("TENSORSTATE_GPU_RESULTS", RESULTS))
    found.mkdir(parents=True, exist_ok=True)
    return found


def write(stage: str, words: dict[str, Any], cases: Any) -> None:
    text = json.dumps({"machine": words, "code": code(), "cases": cases}, indent=1)
    (folder() / f"gpu_{stage}.json").write_text(text + "\n")


def read(stage: str) -> dict[str, Any] | None:
    return _read(folder(), stage)


def on_record(stage: str) -> dict[str, Any]:
    """What an earlier run wrote, as it is committed."""
    return _read(RESULTS, stage) or {"code": {}, "cases": {}}


def _read(of: Path, stage: str) -> dict[str, Any] | None:
    path = of / f"gpu_{stage}.json"
    return json.loads(path.read_text()) if path.exists() else None


# ---- the table ---------------------------------------------------------------------------------

HEADINGS = ["case", "rate", "share of device copy", "x best rival", "host"]


def speed_rows(cases: dict[str, Any]) -> Iterator[list[str]]:
    """Case, rate, share of the copy's bandwidth, times the best rival, the host's time."""
    copy = cases["copy"]
    copied = copy["bytes"] / copy["seconds"][1] if "bytes" in copy else float("nan")
    for name, case in cases.items():
        if "error" in case:
            yield [name, f"failed: {case['error']}", "-", "-", "-"]
            continue
        median = case["seconds"][1]
        moved = case.get("moved", case.get("bytes", 0))
        share = f"{moved / median / copied:.2f}" if moved and name != "copy" else "-"
        if "rows" in case:
            rate = f"{case['rows'] / median / 1e9:.2f} G rows/s"
        else:
            rate = f"{case['bytes'] / median / 1e9:.0f} GB/s"
        host = f"{1e6 * case['host'][1]:.0f} us" if "host" in case else "-"
        yield [name, rate, share, _best_rival(case), host]
        if "with result" in case:
            part = {f"{name}, one call with its result": case["with result"]}
            yield from list(speed_rows({"copy": copy} | part))[1:]


def _best_rival(case: dict[str, Any]) -> str:
    rivals = {name: times[1] for name, times in case.get("rivals", {}).items()}
    if not rivals:
        return "-"
    best = min(rivals, key=lambda name: rivals[name])
    return f"{rivals[best] / case['seconds'][1]:.1f} {best}"


def training_rows(cases: dict[str, Any]) -> Iterator[list[str]]:
    """Case, bare milliseconds, and how much longer it takes in each way."""
    for name, case in cases.items():
        if "bare" not in case:
            continue  # there was no time for it
        bare = case["bare"][1]
        longer = {way: 100 * (times[1] / bare - 1) for way, times in case.items() if way != "bare"}
        ways = ", ".join(f"{way} {percent:+.1f} %" for way, percent in longer.items())
        yield [name, f"{1000 * bare:.1f} ms", ways]


def tests_rows(cases: dict[str, Any]) -> Iterator[list[str]]:
    """File, how many passed, failed and were not run, and how its process ended.

    Why some were not run is in their line.
    """
    for file, case in cases.items():
        code = case["exit code"]
        end = "complete" if isinstance(code, int) else code
        reasons = case.get("skipped", {})
        not_run = "; ".join([f"{len(reasons)}", *sorted(set(reasons.values()))])
        yield [file, f"{case['passed']:,}", f"{len(case['failed'])}", not_run, end]


def page_section() -> str:
    """Markdown of all that has been written; says so where nothing has."""
    parts = []
    for stage, headings, rows in (
        ("speed", HEADINGS, speed_rows),
        ("training", ["case", "bare", "longer"], training_rows),
    ):
        if found := read(stage):
            words = ", ".join(f"{what} {value}" for what, value in found["machine"].items())
            table = [headings, ["---"] * len(headings), *rows(found["cases"])]
            parts += [f"{words}. {changed_since(found)}", _markdown(table)]
    if found := read("tests"):
        headings = ["tests", "passed", "failed", "not run", "end"]
        table = [headings, ["---"] * 5, *tests_rows(found["cases"])]
        parts += [f"Tests. {changed_since(found)}", _markdown(table)]
    return "\n\n".join(parts) or "Nothing has been measured on a GPU yet."


def write_page(page: str) -> str:
    code = _markdown(machine_code.table("sm_90"))
    return _between(_between(page, "table: gpu", page_section()), "table: machine_code", code)


def show() -> None:
    """The table on the screen."""
    for stage in ("tests", "sanitizers"):
        if found := read(stage):
            print(f"{stage}: {json.dumps(found['cases'])[:6000]}")
    print(page_section())


if __name__ == "__main__":
    path = ROOT / "docs/performance.md"
    path.write_text(write_page(path.read_text()))
