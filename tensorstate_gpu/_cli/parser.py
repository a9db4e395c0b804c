"""The arguments of ``tensorstate``: its commands and their options."""

import argparse

from tensorstate_gpu._version import __version__


def new_parser() -> argparse.ArgumentParser:
    """Build the parser. What it returns has the name of the command in ``command``."""
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
    _add_unfinished(report)
    report.add_argument(
        "--html", metavar="FILE", help="also write a page with charts, a new file without a network"
    )
    _add_store_command(commands, "verify", "check all committed files; exit status 1 if damaged")
    info = _add_store_command(commands, "info", "summarise a store without reading its states")
    info.set_defaults(unfinished="accept")
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
    demo.set_defaults(command="demo")


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
    _add_unfinished(export)
    export.add_argument(
        "--to",
        choices=("parquet", "zip"),
        required=True,
        help="parquet: one file per layer; zip: one file, which zarr.storage.ZipStore reads",
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


def _add_unfinished(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--unfinished",
        choices=("refuse", "accept"),
        default="refuse",
        help="of several stores, whether to read what those have committed whose writer is at "
        "work or was killed (default: refuse)",
    )


def _add_store(command: argparse.ArgumentParser, name: str) -> None:
    command.add_argument(
        "stores",
        metavar="STORE",
        nargs="+",
        help="path or URL of a store, or the folder of demo --save; several stores, or a pattern "
        "in quotes, are read as one",
    )
    command.set_defaults(command=name)
