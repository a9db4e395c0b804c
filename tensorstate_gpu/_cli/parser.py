"""The arguments of ``tensorstate``: its commands and their options."""

import argparse

from tensorstate_gpu._version import __version__


def new_parser() -> argparse.ArgumentParser:
    """Build the parser. What it returns has the name of the command in ``command``."""
    parser = argparse.ArgumentParser(
        prog="tensorstate",
        description="See how a neural network uses its neurons.",
        epilog="tensorstate COMMAND --help describes a command.",
    )
    parser.add_argument("--version", action="version", version=f"tensorstate_gpu {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_capture(commands)
    report = _add_store_command(commands, "report", "print a store's table of measures")
    report.add_argument(
        "--by-label", action="store_true", help="add a table by label for each labelled layer"
    )
    report.add_argument(
        "--divergences",
        action="store_true",
        help="compare each two labels for the page, with --html, however long that takes; also "
        "--by-label",
    )
    report.add_argument(
        "--include-out-of-step",
        action="store_true",
        help="also count layers in the network's measures that have seen other inputs than most",
    )
    _add_unfinished(report)
    _add_page(report)
    _add_store_command(commands, "verify", "check all committed files; exit status 1 if damaged")
    info = _add_store_command(commands, "info", "summarise a store without reading its states")
    info.set_defaults(unfinished="accept")
    _add_export(commands)
    _add_count(commands)
    _add_merge(commands)
    _add_warm_up(commands)
    return parser


def _new_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, what: str
) -> argparse.ArgumentParser:
    """Add a command that its own help describes in the words of the list of commands."""
    sentence = f"{what[0].upper()}{what[1:]}."
    return commands.add_parser(name, help=what, description=sentence)


def _add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    demo = _new_command(commands, "demo", "train LeNet-5 on real digits and measure its layers")
    demo.add_argument("--mnist", metavar="PATH", help="a local copy of MNIST (mnist.pkl.gz)")
    demo.add_argument(
        "--save", metavar="DIR", help="save the captured states and the results in this folder"
    )
    _add_page(demo)
    demo.add_argument(
        "--seed", type=int, default=0, help="random seed for weights and batches (default 0)"
    )
    demo.add_argument(
        "--epochs", type=int, default=30, help="maximum number of epochs (default 30)"
    )
    demo.set_defaults(command="demo")


def _add_capture(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    capture = commands.add_parser(
        "capture",
        help="run a model of yours on inputs of yours, and measure its layers",
        description=_CAPTURE,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_model(capture)
    _add_layers(capture)
    capture.add_argument(
        "--limit", metavar="N", type=int, help="use the first N inputs only, counted from the first"
    )
    capture.add_argument(
        "--batch-size",
        metavar="N",
        type=int,
        default=128,
        help="how many inputs of an array the model gets at a time (default 128)",
    )
    capture.add_argument(
        "--device", help="put a PyTorch model and its inputs here, such as cuda or cuda:1"
    )
    _add_page(capture)
    capture.set_defaults(command="capture")


def _add_model(capture: argparse.ArgumentParser) -> None:
    """Add the model, and what it is given."""
    capture.add_argument(
        "model", metavar="MODEL", help="package.module:name of a PyTorch or Keras model"
    )
    capture.add_argument(
        "--inputs",
        metavar="NAME",
        required=True,
        help="package.module:name of an array, or of an iterable of batches such as a DataLoader",
    )
    capture.add_argument(
        "--labels",
        metavar="NAME",
        help="package.module:name of an array with a label for each input, or from-batches if "
        "batches are pairs (inputs, labels); adds a table by label for each layer",
    )


def _add_layers(capture: argparse.ArgumentParser) -> None:
    """Add which layers are captured, and what is kept of them."""
    capture.add_argument(
        "--attach",
        metavar="PATTERN",
        action="append",
        help="capture layers of this name or class; * and ? stand for any characters; can be "
        "repeated; default: all that have weights of two or more axes",
    )
    capture.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        default=[],
        help="leave these layers out; can be repeated",
    )
    capture.add_argument(
        "--store",
        metavar="STORE",
        help="keep all states in this store; goes on if it is there; the page is then written "
        "beside it by default: run.html for run.zarr",
    )
    capture.add_argument(
        "--counts",
        action="store_true",
        help="keep distinct states and their counts only; always so without --store",
    )


_EXAMPLES = """\
for example, of a file mine.py in the current folder:
  tensorstate capture mine:model --inputs mine:images --labels mine:labels --html report.html
  tensorstate capture mine:model --inputs mine:batches --attach "Conv*" --store run.zarr
"""
_CAPTURE = """\
Runs a model on inputs, in evaluation mode and without gradients, and prints the measures of its
layers. It imports your modules from the current folder, or where they are installed, and so
EXECUTES THEIR CODE: name only modules that you trust.

Each name is that of an object, or of a function or class without arguments that returns one. With
--store, a run that was stopped, also by Ctrl-C, goes on when the same command is given again; the
model and the order of its inputs must then be the same.
"""


def _add_store_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, what: str
) -> argparse.ArgumentParser:
    command = _new_command(commands, name, what)
    _add_store(command, name)
    command.add_argument("--json", action="store_true", help="print only JSON")
    return command


def _add_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    export = _new_command(commands, "export", "export the layers of a store as Parquet or zip")
    _add_store(export, "export")
    _add_unfinished(export)
    export.add_argument(
        "--format",
        choices=("parquet", "zip"),
        required=True,
        help="parquet: one file per layer; zip: one file, which zarr.storage.ZipStore reads",
    )
    export.add_argument(
        "--to",
        metavar="PATH",
        help="new folder (parquet) or file (zip); default: the store's name, or what the names of "
        "several have in common, in the current folder",
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


def _add_count(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    count = _new_command(commands, "count", "count a layer, or a part of its rows")
    _add_store(count, "count")
    _add_unfinished(count)
    count.add_argument("--layer", metavar="NAME", help="which layer; not needed if there is one")
    count.add_argument(
        "--part",
        metavar="I/N",
        type=_share,
        default=(0, 1),
        help="count part I, from 0, of N parts of the rows: merge adds all of them up",
    )
    _add_counts_path(count)


def _add_merge(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    merge = _new_command(commands, "merge", "add up stores of counts, such as all parts")
    merge.add_argument("paths", metavar="PATH", nargs="+", help="path or URL of a store of counts")
    merge.add_argument(
        "--range",
        metavar="I/N",
        type=_share,
        help="only range I, from 0, of N ranges of the states: all of them are the sum",
    )
    _add_counts_path(merge)
    merge.set_defaults(command="merge")


def _add_warm_up(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    warm_up = _new_command(
        commands, "warm-up", "compile all kernels of the CPU now, so that no first call has to"
    )
    warm_up.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        help="compile into this folder, for processes with NUMBA_CACHE_DIR=FOLDER, also on other "
        "machines like this one; default: where Numba caches anyway",
    )
    warm_up.set_defaults(command="warm_up")


def _add_counts_path(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--to", metavar="PATH", required=True, help="path or URL of the new store of counts"
    )


def _share(text: str) -> tuple[int, int]:
    """Parse ``3/16``."""
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise argparse.ArgumentTypeError(f"must be I/N with I from 0 to N - 1, got {text!r}")
    return int(number), int(of)


def _add_page(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--html",
        metavar="FILE",
        help="also write a page with charts: one new file, which needs no network to be read",
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
