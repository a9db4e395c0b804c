"""``tensorstate demo``: trains a small network, and prints and saves the measures of its layers."""

import argparse
import json
import os
from pathlib import Path

from tensorstate_gpu._cli.opened_store import RESULTS, STATES
from tensorstate_gpu._cli.terminal import terminal_width
from tensorstate_gpu._process.new_files import check_new
from tensorstate_gpu.demo import main_job
from tensorstate_gpu.reporting.page.write import check_page


def demo(options: argparse.Namespace) -> int:
    """Run the demo, print its table, and optionally save its states and results."""
    folder = None if options.save is None else Path(os.path.expanduser(options.save))
    if folder is not None:
        _check_folder(folder)
    if options.html is not None:
        check_page(options.html)
    run, report = main_job(options.mnist, options.seed, options.epochs)
    print(f"\n{report.to_text(terminal_width())}")
    if folder is not None:
        run.save(folder / STATES)
        (folder / RESULTS).write_text(json.dumps(report.as_dict(), indent=2) + "\n")
        print(f"\nSaved to {folder}; `tensorstate report {folder}` prints this table again,")
        print("with --by-label also one for each digit.")
    if options.html is not None:
        data = "MNIST" if options.mnist else "the handwritten digits of scikit-learn"
        origin = {"model": "LeNet-5, trained by tensorstate demo", "inputs": data}
        report.to_html(options.html, title="How LeNet-5 uses its neurons", origin=origin)
        print(f"\nThe page with charts, to open in a browser: {Path(options.html).resolve()}")
    return 0


def _check_folder(folder: Path) -> None:
    """Raise ValueError or OSError, before the training, if the demo cannot be saved there."""
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} exists and is not empty; it is not overwritten: choose another")
    new = folder.absolute() / STATES
    while not os.path.lexists(new.parent):  # folders that are missing are made at the end
        new = new.parent
    check_new(new)
