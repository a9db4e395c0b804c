"""The command ``tensorstate``: the demo, and what is done with stores."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tensorstate_gpu._version import __version__

_TOLD = (ValueError, TypeError, OSError, ImportError)  # their messages say all


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when all went well, 2 with a line on stderr when not, 130 after Ctrl-C.

    ``verify`` gives 1 when it has found problems.
    """
    options = _parser().parse_args(arguments)
    try:
        status: int = options.command(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("tensorstate: stopped", file=sys.stderr)
        return 130
    except Exception as error:  # whatever it is, a line says it better than a traceback
        return _tell(error)


def _tell(error: Exception) -> int:
    if isinstance(error, BrokenPipeError):  # the rest of the output would raise it again
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    kind = "" if isinstance(error, _TOLD) else f"{type(error).__name__}: "
    print(f"tensorstate: {kind}{' '.join(str(error).splitlines())}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tensorstate", description="See how a neural network uses its neurons."
    )
    parser.add_argument("--version", action="version", version=f"tensorstate_gpu {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands)
    report = _add_store_command(commands, "report", "print the table of measures of a store")
    report.add_argument(
        "--by-label", action="store_true", help="and a table per layer, where labels were stored"
    )
    _add_store_command(commands, "verify", "check all committed files; 1 when some are damaged")
    _add_store_command(commands, "info", "say what a store holds, without reading its states")
    _add_export(commands)
    return parser


def _add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    demo = commands.add_parser("demo", help="train LeNet-5 on real digits and measure its layers")
    demo.add_argument("--mnist", metavar="PATH", help="a local copy of MNIST (mnist.pkl.gz)")
    demo.add_argument(
        "--save", metavar="DIR", help="keep the captured states and the results there"
    )
    demo.add_argument("--seed", type=int, default=0, help="of weights and batches (default 0)")
    demo.add_argument("--epochs", type=int, default=30, help="at most (default 30)")
    demo.set_defaults(command=_demo)


def _add_store_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, what: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=what)
    _add_store(command, name)
    command.add_argument("--json", action="store_true", help="print JSON, and nothing else")
    return command


def _add_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    export = commands.add_parser("export", help="write the layers of a store to files of others")
    _add_store(export, "export")
    export.add_argument(
        "--to",
        choices=("parquet", "zip"),
        required=True,
        help="a Parquet file per layer, or one zip for zarr.storage.ZipStore",
    )
    export.add_argument(
        "--out",
        help="a new folder (a file per layer) or zip; by default named after the store, here",
    )
    export.add_argument(
        "--counts", action="store_true", help="distinct states and their counts, for parquet"
    )
    export.add_argument(
        "--layer", metavar="NAME", action="append", help="only this one; can be repeated"
    )


def _add_store(command: argparse.ArgumentParser, name: str) -> None:
    command.add_argument("store", metavar="STORE", help="a path or URL, or what demo --save wrote")
    command.set_defaults(command=lambda options: _run_on_store(name, options))


def _run_on_store(name: str, options: argparse.Namespace) -> int:
    from tensorstate_gpu._cli import export_command, store_commands  # slow to import: zarr

    module = export_command if name == "export" else store_commands
    status: int = getattr(module, name)(options)
    return status


def _demo(options: argparse.Namespace) -> int:
    from tensorstate_gpu import demo
    from tensorstate_gpu._cli.opened_store import RESULTS, STATES

    folder = None if options.save is None else Path(options.save)
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
