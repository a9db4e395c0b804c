"""Is the neuron axis right in published models? ``python -m benchmarks.studies.neuron_axes``.

Each model is built with random weights, and all its leaf layers are captured by the library's own
rules in one forward pass on a CPU. The axis of each call is compared with the true one (truth.py).
It needs timm, transformers, torchvision, Keras and TensorFlow, which ``make env`` installs.

Each model has a process of its own and a time limit. What is found goes to a JSON file after each
model; a model that stands there is not run again unless it failed. Delete the file to start over.
With --page, nothing is run: the tables of docs/neuron_axes.md are written from that file.
"""

import argparse
import importlib.metadata
import json
import multiprocessing
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

import tensorstate_gpu as ts

from .cost import cost_rows
from .findings import findings
from .models import Published, published
from .page import PAGE, written_page
from .table import model_rows, summary_rows, text_table

RESULTS = Path(__file__).resolve().parents[2] / "results/neuron_axes.json"
WARM = "benchmarks.studies.neuron_axes.warm"
LIBRARIES = ("torch", "timm", "transformers", "torchvision", "keras")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.neuron_axes")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="GLOB", help="names of models")
    parser.add_argument("--library", default="*", help="timm, transformers, torchvision or keras")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("--limit", type=float, default=120, metavar="SECONDS", help="of one model")
    parser.add_argument("--cost", action="store_true", help="time the pass that is followed")
    parser.add_argument("--page", action="store_true", help="write docs/neuron_axes.md from FILE")
    options = parser.parse_args(arguments)
    if options.cost:
        print(text_table(cost_rows()))
        return
    if options.page:
        PAGE.write_text(written_page(_read(options.json), PAGE.read_text()))
        return
    chosen = published(options.library, *options.only)
    found = _read(options.json)
    study(chosen, found, options.json, options.limit)
    here = {each.key: found[each.key] for each in chosen}
    print(text_table(model_rows(here)), text_table(summary_rows(here)), sep="\n\n")


def study(
    chosen: Sequence[Published], found: dict[str, Any], file: Path, limit: float
) -> dict[str, Any]:
    """Add the findings about models to those that there are, and write all to the file."""
    for number, each in enumerate(chosen, 1):
        if "error" in found.get(each.key, {"error": ""}):
            print(f"{number}/{len(chosen)} {each.key} ", end="", file=sys.stderr, flush=True)
            found[each.key] = in_a_process(each, limit)
            print(_in_short(found[each.key]), file=sys.stderr, flush=True)
            _write(file, found)
    return found


def in_a_process(each: Published, limit: float) -> dict[str, Any]:
    """Return the findings about a model, made in a new process, which is ended after the limit."""
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload([WARM])
    receiving, sending = context.Pipe(duplex=False)
    begun = time.monotonic()
    process = context.Process(target=_send_findings, args=(each.library, each.name, sending))
    process.start()
    sending.close()
    try:
        if not receiving.poll(limit):
            return {"error": f"not finished after {limit:g} s", "seconds": limit}
        return receiving.recv()
    except EOFError:
        process.join()
        seconds = round(time.monotonic() - begun, 1)
        return {"error": f"its process ended with exit code {process.exitcode}", "seconds": seconds}
    finally:
        process.kill()
        process.join()


def _send_findings(library: str, name: str, sending: Connection) -> None:
    torch.set_num_threads(1)
    (each,) = published(library, name)
    sending.send(findings(each))


def _in_short(found: Mapping[str, Any]) -> str:
    if "error" in found:
        return f"{found['seconds']} s, {found['error']}"
    wrong = len(found["wrong"])
    return f"{found['seconds']} s, {found['calls']} calls, {wrong} wrong"


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())["models"] if file.exists() else {}


def _write(file: Path, found: Mapping[str, Any]) -> None:
    installed = [name for name in LIBRARIES if find_spec(name) is not None]
    versions = {name: importlib.metadata.version(name) for name in installed}
    about = {"tensorstate_gpu": ts.__version__, "python": platform.python_version(), **versions}
    file.write_text(json.dumps({"versions": about, "models": found}, indent=1) + "\n")
