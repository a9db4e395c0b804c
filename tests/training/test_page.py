"""The programs of docs/training.md run, and print what the page says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import programs_of

ROOT = Path(__file__).parents[2]
LOOP, CHECKPOINT, *CALLBACKS = programs_of("docs/training.md")


@pytest.mark.parametrize("program", [LOOP, CHECKPOINT], ids=["loop", "checkpoint"])
def test_programs_of_ones_own(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(program, {"__name__": "__main__"})
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("{")]
    assert said == re.findall(r"print\(.*\)  # (.*)", program)


@pytest.mark.long
@pytest.mark.parametrize(
    "program", CALLBACKS, ids=["lightning", "huggingface", "accelerate", "keras"]
)
def test_programs_with_callbacks(program, tmp_path):
    prelude = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from benchmarks.studies.neuron_axes.torchvision_models import import_torchvision\n"
        "import_torchvision(); del sys.path[0]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", prelude + program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    efficiencies = [float(number) for number in re.findall(r"0\.\d+", done.stdout.splitlines()[-1])]
    assert efficiencies
    assert all(0 < each < 1 for each in efficiencies)
