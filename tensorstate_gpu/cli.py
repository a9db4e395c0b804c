"""The command ``tensorstate``: the demo, and reports of stored captures."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tensorstate_gpu import __version__

if TYPE_CHECKING:
    from tensorstate_gpu.reporting import LayerReport, Report

STATES, RESULTS = "states.zarr", "results.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when all went well, 2 with a line on stderr for the user's mistakes."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"tensorstate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tensorstate: stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tensorstate", description="See how a neural network uses its neurons."
    )
    parser.add_argument("--version", action="version", version=f"tensorstate_gpu {__version__}")
    commands = parser.add_subparsers(required=True)

    demo = commands.add_parser("demo", help="train LeNet-5 on real digits and measure its layers")
    demo.add_argument("--mnist", metavar="PATH", help="a local copy of MNIST (mnist.pkl.gz)")
    demo.add_argument(
        "--save", metavar="DIR", help="keep the captured states and the results there"
    )
    demo.add_argument("--seed", type=int, default=0, help="of weights and batches (default 0)")
    demo.add_argument("--epochs", type=int, default=30, help="at most (default 30)")
    demo.set_defaults(command=_demo)

    report = commands.add_parser("report", help="print the table of a saved capture again")
    report.add_argument("directory", metavar="DIR", help="what demo --save wrote, or a zarr group")
    report.set_defaults(command=_report)
    return parser


def _demo(options: argparse.Namespace) -> None:
    from tensorstate_gpu import demo

    folder = None if options.save is None else Path(options.save)
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} exists and is not empty; it is not overwritten")
    run, report = demo.main_job(options.mnist, options.seed, options.epochs)
    print(f"\n{report}")
    if folder is not None:
        run.save(folder / STATES)
        (folder / RESULTS).write_text(json.dumps(report.as_dict(), indent=2) + "\n")
        print(f"\nSaved to {folder}; `tensorstate report {folder}` prints this table again.")


def _report(options: argparse.Namespace) -> None:
    from tensorstate_gpu.reporting import LayerReport
    from tensorstate_gpu.store import Store

    folder = Path(options.directory)
    store = Store(folder / STATES if (folder / STATES).exists() else folder)
    layers = [
        LayerReport.of(layer.name, layer.histogram(), layer.axis)
        for layer in store.efficiency_layers
    ]
    print(_summary(layers, folder / RESULTS))


def _summary(layers: "list[LayerReport]", results: Path) -> "Report":
    from tensorstate_gpu.reporting import summarise

    if not results.exists():
        return summarise(layers, None, 2)
    try:
        saved = json.loads(results.read_text())
        if not isinstance(saved, dict):
            raise ValueError(f"a {type(saved).__name__}")
        return summarise(layers, saved.get("accuracy"), saved.get("beta", 2))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{results} is not what demo --save wrote: {error}") from error
