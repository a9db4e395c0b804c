"""Runs the examples, and writes docs/gallery.md with what they print and the pictures they save.

``python docs/gallery.py`` runs all, for some minutes. With names it runs these, and keeps what the
page shows of the others: ``python docs/gallery.py dqn pruning``.
"""

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES, PAGE, PICTURES = (
    ROOT / "examples",
    ROOT / "docs/gallery.md",
    ROOT / "docs/figures/gallery",
)
SECTIONS = {
    "First captures": (
        *("two_layer_network", "pytorch_lenet5", "keras_lenet5", "colab_cifar10"),
        *("subclassed_cifar10", "outputs_and_errors"),
    ),
    "While a network learns": (
        *("monitored_training", "tensorboard_images", "checkpoint_and_resume", "keras_callback"),
        *("keras_metric_layer", "tensorflow_training_loop", "lightning_training"),
        "huggingface_training",
    ),
    "Kinds of networks": ("shared_layers", "padded_transformer", "dqn", "transfer_learning"),
    "Questions": (
        *(
            "output_distributions",
            "class_overlap",
            "weight_initialisation",
            "pooling_and_dropout",
            "pruning",
        ),
        "efficiency_study",
    ),
}
NAMES = [name for names in SECTIONS.values() for name in names]
# The backend of the examples that use Keras; those that choose one themselves are not here.
BACKENDS = {
    "two_layer_network": "torch",
    "keras_lenet5": "torch",
    "colab_cifar10": "torch",
    "subclassed_cifar10": "tensorflow",
    "outputs_and_errors": "torch",
    "transfer_learning": "torch",
    "pooling_and_dropout": "torch",
}
ARGUMENTS = {"efficiency_study": ["--quick"]}
# Lightning and transformers import torchvision, which may be built for another torch here.
WITH_TORCHVISION = ("huggingface_training", "lightning_training")
# Ends what hangs. Each needs less than a minute of a core, which takes long on a busy machine.
HANGING_SECONDS = 3 * 3600
_WITH_TORCHVISION = f"""
import runpy, sys
sys.path.insert(0, {str(ROOT)!r})
from benchmarks.studies.neuron_axes.torchvision_models import import_torchvision
import_torchvision()
sys.path[0] = {str(EXAMPLES)!r}
runpy.run_path(sys.argv[1], run_name="__main__")
"""
_HEAD = """# Gallery

What the programs in [examples/](../examples/) print, and the pictures they save. They learn from
scikit-learn's handwritten digits; some take MNIST, CIFAR-10 or a ResNet-50 instead if Keras has
downloaded them before. They need `pip install '.[all]'` in a clone of the repository, and some of
them also TensorBoard, Lightning or transformers. `python docs/gallery.py` has written this page, on
a CPU.
"""


def run(name: str, folder: Path, backend: str = "") -> subprocess.CompletedProcess[str]:
    """Run an example in a folder, without data that was downloaded before."""
    environment = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "MPLBACKEND": "Agg",
        "KERAS_BACKEND": backend or BACKENDS.get(name, ""),
        "HOME": str(folder),
        # Matplotlib's list of fonts, which takes seconds to make.
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
    }
    with_torchvision = ["-c", _WITH_TORCHVISION] if name in WITH_TORCHVISION else []
    program = [*with_torchvision, str(EXAMPLES / f"{name}.py"), *ARGUMENTS.get(name, [])]
    return subprocess.run(
        [sys.executable, *program],
        cwd=folder,
        env=os.environ | {key: value for key, value in environment.items() if value},
        capture_output=True,
        text=True,
        timeout=HANGING_SECONDS,
    )


def picture(name: str, folder: Path) -> Path:
    """Return the picture of an example in a folder. Raises FileNotFoundError if there is none."""
    for path in (folder / f"{name}.png", folder / f"{name}.svg"):
        if path.exists():
            return path
    raise FileNotFoundError(f"{name} has no picture in {folder}")


def description(name: str) -> str:
    """Return the first line of the docstring of an example."""
    text = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text())) or ""
    return text.partition("\n")[0]


def command(name: str) -> str:
    backend = [f"KERAS_BACKEND={BACKENDS[name]}"] if name in BACKENDS else []
    return " ".join([*backend, "python", f"examples/{name}.py", *ARGUMENTS.get(name, [])])


def entry(name: str, output: str) -> str:
    """Return the part of the page that shows an example."""
    shown = picture(name, PICTURES).relative_to(PAGE.parent)
    return (
        f"### [{name}](../examples/{name}.py)\n\n{description(name)}\n\n"
        f"![What {name} draws]({shown})\n\n```\n$ {command(name)}\n{output}\n```\n"
    )


def outputs(page: str) -> dict[str, str]:
    """Return what the page says that examples print."""
    found = re.findall(r"^### \[(\w+)\].*?^\$ .*?\n(.*?)\n```$", page, re.DOTALL | re.MULTILINE)
    return dict(found)


def page(printed: dict[str, str]) -> str:
    """Return the page, from what examples print; the others are left out."""
    parts = [_HEAD]
    for title, names in SECTIONS.items():
        parts.append(f"## {title}\n")
        parts += [entry(name, printed[name]) for name in names if name in printed]
    return "\n".join(parts)


def new_output(name: str) -> str:
    """Run an example, keep its picture, and return what it prints."""
    with tempfile.TemporaryDirectory() as folder:
        done = run(name, Path(folder))
        if done.returncode:
            raise RuntimeError(f"{name} failed:\n{done.stderr[-3000:]}")
        PICTURES.mkdir(exist_ok=True)
        shutil.copy(picture(name, Path(folder)), PICTURES)
    lines = [line.rstrip() for line in done.stdout.strip().splitlines()]
    return "\n".join(lines)


def main(names: Collection[str]) -> None:
    for name in names:
        before = os.times()
        output = new_output(name)
        after = os.times()
        used = sum(after[2:4]) - sum(before[2:4])
        print(
            f"{name}: {used:.0f} s of processor time, {after.elapsed - before.elapsed:.0f} s in all"
        )
        printed = outputs(PAGE.read_text()) if PAGE.exists() else {}
        PAGE.write_text(page(printed | {name: output}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    asked = parser.parse_args().names
    if unknown := [name for name in asked if name not in NAMES]:
        parser.error(f"no example {', '.join(unknown)}; there are {', '.join(NAMES)}")
    main(asked or NAMES)
