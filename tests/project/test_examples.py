"""The examples run, each in a folder of its own, and print what they promise."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.samples import thinned

EXAMPLES = Path(__file__).parents[2] / "examples"
ON_ONE_BACKEND = {
    "efficiency_study": "",
    "output_distributions": "",
    "pytorch_lenet5": "",
    "tensorflow_training_loop": "tensorflow",
}
RUNS = [("keras_lenet5", backend) for backend in ("tensorflow", "jax", "torch")]
RUNS += [
    (path.stem, ON_ONE_BACKEND.get(path.stem, "jax" if "two_layer" in path.stem else "tensorflow"))
    for path in sorted(EXAMPLES.glob("*.py"))
    if path.stem not in ("data", "keras_lenet5")
]
# The others take longer, some of them minutes. Keras' ways to capture are also those of
# docs/keras.md, whose code test_readme.py runs.
SAMPLE = [("efficiency_study", "")]
ARGUMENTS = {"efficiency_study": ["--quick"]}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "backend"), thinned(RUNS, SAMPLE))
def test_example(name, backend, tmp_path):
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["HOME"] = str(tmp_path)  # without data that was downloaded before
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *ARGUMENTS.get(name, [])],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "efficiency" in done.stdout
    if "lenet5" in name:
        assert "288,000 states" in done.stdout  # 500 images of 24 x 24 positions
        assert "aIQ" in done.stdout
    if name == "transfer_learning":
        accuracies = [float(share) for share in re.findall(r"accuracy +(\S+) %", done.stdout)]
        assert len(accuracies) == 3
        assert accuracies[-1] > max(90, accuracies[0])
    if name == "output_distributions":
        bits = [float(number) for number in re.findall(r"([\d.]+) bits", done.stdout)]
        right, wrong, cost, *divergences = bits
        assert right < wrong / 3
        assert right < cost < 0.5  # the cost of a label is that of being undecided, and more
        assert divergences[::2] == sorted(divergences[::2])  # with the noise
        assert divergences[1::2] == sorted(divergences[1::2])
        assert divergences[-1] < 1
        assert "of unlimited images (good)" in done.stdout
    if name == "efficiency_study":
        rows = [line.split() for line in done.stdout.splitlines()[2:]]
        assert [row[:3] for row in rows[:2]] == [["1/4", "yes", "0%"], ["1/4", "yes", "75%"]]
        accuracies = [float(row[5]) for row in rows]
        assert accuracies[0] > accuracies[1]  # with 75 % random labels
        picture = ElementTree.parse(tmp_path / "efficiency_study.svg").getroot()
        assert len([shape for shape in picture.iter() if shape.tag.endswith("circle")]) == 4 + 3 + 3
    if name == "tensorflow_training_loop":
        assert list((tmp_path / "logs").glob("events*"))


def test_every_example_is_run():
    assert len(RUNS) == 11
