"""``tensorstate warm-up``: compiles all kernels of captures and counts into Numba's cache."""

import argparse
import os
import sys
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path

from tensorstate_gpu._process.progress import Progress
from tensorstate_gpu.reporting.text import format_bytes, with_noun


def warm_up(options: argparse.Namespace) -> int:
    """Call each kernel once for each kind of arguments; what the cache has is only loaded."""
    folder = None if options.folder is None else _checked_folder(options.folder)
    if folder is not None:
        _use_folder(folder)
    from tensorstate_gpu._cli.first_uses import first_uses  # with the kernels: after the folder
    from tensorstate_gpu.cpu_fallback.compiling import cache_use

    check_cache(cache_use()[2], folder)
    uses = first_uses()
    with Progress("compiling", len(uses), "kinds of calls") as bar:
        for what, use in uses:
            bar.add(0, note=what)
            use()
            bar.add(1, note=what)
    loaded, compiled, folders = cache_use()
    size = sum(file.stat().st_size for folder in folders for file in folder.glob("*.nb[ic]"))
    print(f"{with_noun(compiled, 'kernel')} compiled, {loaded:,} loaded ({format_bytes(size)})")
    if folder is not None:
        print(_how_to_use(folder))
    return 0


def _checked_folder(name: str) -> Path:
    if not name:
        raise ValueError("FOLDER is empty")
    return Path(name).expanduser().resolve()


def _use_folder(folder: Path) -> None:
    """Let Numba cache in a folder. Raises OSError if it is none, or cannot be written to."""
    if "tensorstate_gpu.cpu_fallback" in sys.modules:
        raise RuntimeError(
            "the kernels are loaded already, and have their folder: warm-up FOLDER needs a process "
            "of its own"
        )
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder")
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written to")
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = str(folder)


def check_cache(folders: Collection[Path], wanted: Path | None) -> None:
    """Raise OSError if Numba would not cache, or elsewhere: it takes what it can write to."""
    if not folders:
        raise OSError("no folder can be written to that Numba would cache kernels in: give FOLDER")
    for used in folders:
        if wanted is not None and not used.resolve().is_relative_to(wanted):
            raise PermissionError(f"Numba cannot write to its folder in {wanted}, and takes {used}")


def _how_to_use(folder: Path) -> str:
    """Say in which processes the folder replaces compiling."""
    from llvmlite.binding import get_host_cpu_name  # type: ignore[import-untyped]

    python = ".".join(map(str, sys.version_info[:2]))
    package = Path(__file__).resolve().parents[1]
    return (
        f"Set NUMBA_CACHE_DIR to {folder}, or to a copy of it that can be written to. It serves "
        f"processors like this one ({get_host_cpu_name()}), Python {python}, Numba "
        f"{version('numba')}, and this version of tensorstate_gpu at {package}"
    )
