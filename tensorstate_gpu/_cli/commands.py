"""The command ``tensorstate``: parses arguments, runs the demo and the commands for stores."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tensorstate_gpu._version import __version__

_PLAIN_ERRORS = (ValueError, TypeError, OSError, ImportError)  # printed without the type's name


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    0 is success, 2 an error (with one line on stderr), 130 Ctrl-C. ``verify`` returns 1 when it has
    found problems.
    """
    options = _parser().parse_args(arguments)
    try:
        status: int = options.command(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("tensorstate: stopped", file=sys.stderr)
        return 130
    except Exception as error:  # users get one line instead of a traceback
        return _print_error(error)


def _print_error(error: Exception) -> int:
    if isinstance(error, BrokenPipeError):  # flushing the rest of the output would raise it again
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    kind = "" if isinstance(error, _PLAIN_ERRORS) else f"{type(error).__name__}: "
    print(f"tensorstate: {kind}{' '.join(str(error).splitlines())}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tensorstate", description="See how a neural network uses its neurons."
    )
    parser.add_argument("--version", action="version", version=f"tensorstate_gpu {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands)
    report = _add_store_command(commands, "report", "print a store's table of measures")
    report.add_argument(
        "--by-label", action="store_true", help="add a table by label for each labelled layer"
    )
    _add_store_command(commands, "verify", "check all committed files; exit status 1 if damaged")
    _add_store_command(commands, "info", "summarise a store without reading its states")
    _add_export(commands)
    return parser


def _add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    demo = commands.add_parser("demo", help="train LeNet-5 on real digits and measure its layers")
    demo.add_argument("--mnist", metavar="PATH", help="a local copy of MNIST (mnist.pkl.gz)")
    demo.add_argument(
        "--save", metavar="DIR", help="save the captured states and the results in this folder"
    )
    demo.add_argument(
        "--seed", type=int, default=0, help="random seed for weights and batches (default 0)"
    )
    demo.add_argument(
        "--epochs", type=int, default=30, help="maximum number of epochs (default 30)"
    )
    demo.set_defaults(command=_demo)


def _add_store_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, what: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=what)
    _add_store(command, name)
    command.add_argument("--json", action="store_true", help="print only JSON")
    return command


def _add_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    export = commands.add_parser("export", help="export the layers of a store as Parquet or zip")
    _add_store(export, "export")
    export.add_argument(
        "--to",
        choices=("parquet", "zip"),
        required=True,
        help="parquet: one file per layer; zip: one file for zarr.storage.ZipStore",
    )
    export.add_argument(
        "--out",
        help="new folder (parquet) or file (zip); default: the store's name, in the current folder",
    )
    export.add_argument(
        "--counts",
        action="store_true",
        help="export distinct states and their counts (parquet only)",
    )
    export.add_argument(
        "--layer", metavar="NAME", action="append", help="export only this layer; can be repeated"
    )


def _add_store(command: argparse.ArgumentParser, name: str) -> None:
    command.add_argument(
        "store", metavar="STORE", help="path or URL of a store, or the folder of demo --save"
    )
    command.set_defaults(command=lambda options: _run_on_store(name, options))


def _run_on_store(name: str, options: argparse.Namespace) -> int:
    from tensorstate_gpu._cli import export_command, store_commands  # slow to import: zarr

    module = export_command if name == "export" else store_commands
    status: int = getattr(module, name)(options)
    return status


def _demo(options: argparse.Namespace) -> int:
    from tensorstate_gpu import demo
    from tensorstate_gpu._cli.opened_store import RESULTS, STATES

    folder = None if options.save is None else Path(os.path.expanduser(options.save))
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} exists and is not empty; it is not overwritten")
    run, report = demo.main_job(options.mnist, options.seed, options.epochs)
    print(f"\n{report}")
    if folder is not None:
        run.save(folder / STATES)
        (folder / RESULTS).write_text(json.dumps(report.as_dict(), indent=2) + "\n")
        print(f"\nSaved to {folder}; `tensorstate report {folder}` prints this table again,")
        print("with --by-label also one for each digit.")
    return 0
