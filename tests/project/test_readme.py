"""What the documents show is true: the README's code runs, and its links lead somewhere."""

import glob
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._cli.main import main
from tests.support.drawings import with_graphviz
from tests.support.pages import programs_of, run

ROOT = Path(__file__).parents[2]


def test_the_code_runs_in_an_empty_directory(tmp_path):
    (program,) = programs_of("README.md")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "network efficiency" in done.stdout
    assert "StateCounts(" in done.stdout


def test_the_command_for_a_model_of_yours_writes_a_page(tmp_path, monkeypatch, capsys):
    (command,) = re.findall(r"`tensorstate (capture [^`]+)`", (ROOT / "README.md").read_text())
    (tmp_path / "package").mkdir()
    (tmp_path / "package/module.py").write_text(
        "import torch\nmodel = torch.nn.Linear(4, 8)\nbatches = [torch.randn(50, 4)]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(command.split()) == 0
    assert "network efficiency" in capsys.readouterr().out
    assert [path.name for path in tmp_path.glob("*.html")] == ["page.html"]


def test_the_code_of_the_first_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    run("\n".join(programs_of("docs/start.md")))
    (accuracy,) = re.findall(r"accuracy +([\d.]+) %", capsys.readouterr().out)
    assert float(accuracy) > 80
    assert {*os.listdir()} == {"efficiency.png", "firing_rates.png", "report.html"}


# That of the pages on Keras and on neurons is among the cases of Keras and of JAX.
def test_the_code_of_the_page_on_pytorch_runs(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs/pytorch.md").read_text()
    (table,) = re.findall(r"```\n(layer .*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for program in programs_of("docs/pytorch.md"):
        run(program)
    shown = [line.split()[:5] for line in table.splitlines()]
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:5] for line in printed[: len(shown)]] == shown


def test_the_code_of_the_page_on_statistics_prints_what_it_says(capsys):
    for program in programs_of("docs/statistics.md"):
        exec(program, {})
        assert capsys.readouterr().out.split() == re.findall(r"print.*  # ([\w.]+)", program)


def test_what_other_tools_call_it_can_be_written():
    import torch

    page = (ROOT / "docs/neurons.md").read_text()
    table = page.split("## What other tools call it\n")[1].split("\n\n")[1]
    model = torch.nn.Sequential(torch.nn.Linear(4, 10), torch.nn.ReLU())
    layers = []
    for _ in range(2):
        with ts.capture(model, "ReLU") as run, torch.no_grad(), run.labels([0, 1] * 30):
            model(torch.randn(60, 4))
        layers.append(run["1"])
    before, after = layers
    names = {"layer": after, "before": before, "after": after, "report": run.report(), "ts": ts}
    names |= {name: getattr(ts, name) for name in ("neurons", "bits", "information", "reporting")}
    written = re.findall(r"^\|[^|]*\| `(.*?)`", table, re.MULTILINE)
    found = {code: eval(code, {**names, "model": model}) for code in written}
    assert len(found) == 10
    assert 0 < found["1 - neurons.firing_rates(layer).mean()"] < 1
    (rates,) = (value for value in found.values() if isinstance(value, dict) and 0 in value)
    assert {label: each.shape for label, each in rates.items()} == {0: (10,), 1: (10,)}
    (changes,) = (value for code, value in found.items() if "bitwise_xor" in code)
    assert len(changes) == 10  # without the bits that fill the last byte


def test_each_source_of_the_page_on_statistics_is_among_its_references():
    text, references = (ROOT / "docs/statistics.md").read_text().split("## References\n")
    cited = {*re.findall(r"([A-Z][a-z]+) \(?((?:19|20)\d\d)\b", text)}
    listed = re.split(r"^- ", references, flags=re.MULTILINE)
    assert len(cited) > 15
    for name, year in cited:
        assert any(name in each and f"({year})." in each for each in listed), f"{name} {year}"


def test_the_code_of_the_page_on_concepts_prints_what_it_says(capsys):
    page = (ROOT / "docs/concepts.md").read_text()
    (program,) = programs_of("docs/concepts.md")
    exec(program, {})
    assert f"```\n{capsys.readouterr().out}```\n" in page


def test_the_code_of_the_page_on_scale_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for program in programs_of("docs/scale.md"):
        exec(program, names)
    assert names["again"].load() == ts.count_states(names["rows"])
    assert len(names["again"]) == len(names["counts"]) == 300_000


def test_the_code_of_the_page_on_clusters_runs(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs/cluster.md").read_text()
    monkeypatch.chdir(tmp_path)
    names = {}
    for program in programs_of("docs/cluster.md"):
        exec(program, names)
    expected = ts.count_states(names["rows"])
    for path in ("counts.zarr", "of_stores.zarr", "of_array.zarr"):
        assert ts.store.open_counts(path).load() == expected
    shutil.rmtree("parts")
    shutil.rmtree("counts.zarr")
    for script in re.findall(r"```bash\n(.*?)```", page, re.DOTALL):
        (last,) = re.findall(r"--array=0-(\d+)", script)
        (command,) = re.findall(r"^tensorstate (.*)", script, re.MULTILINE)
        for task in range(int(last) + 1):
            words = command.replace("$SLURM_ARRAY_TASK_ID", str(task)).split()
            words = [
                path for word in words for path in (glob.glob(word) if "*" in word else [word])
            ]
            assert main(words) == 0, capsys.readouterr().err
    assert ts.store.open_counts("counts.zarr").load() == expected


@pytest.mark.long
@with_graphviz
def test_the_code_of_the_page_on_reports_draws_its_pictures(tmp_path):
    page = (ROOT / "docs/reports.md").read_text()
    program = "\n".join(programs_of("docs/reports.md"))
    environment = os.environ | {"MPLBACKEND": "Agg"}
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=3600
    )
    assert done.returncode == 0, done.stderr
    pictures = re.findall(r"!\[.*?\]\(figures/(.*?)\)", page)
    assert sorted(pictures) == sorted(path.name for path in tmp_path.glob("*.png"))
    assert len(pictures) == 9
    assert (tmp_path / "paper.pdf").stat().st_size > 5000


def committed(path):
    try:
        return any(ts.Store(path).record.layers.values())
    except ValueError:  # it is not there yet
        return False


@pytest.mark.slow
def test_the_code_of_the_page_on_stores_runs_and_goes_on(tmp_path, monkeypatch, capsys):
    capture, reading, training, _ = programs_of("docs/store.md")
    with subprocess.Popen([sys.executable, "-c", capture], cwd=tmp_path) as killed:
        while not committed(tmp_path / "run.zarr"):
            assert killed.poll() is None
            time.sleep(0.05)
        killed.kill()
    again = capture + "print(run.instance_count)\n" + reading
    interrupted = training.replace(", 30):", ", 17):")  # after the checkpoint of step 10
    monkeypatch.chdir(tmp_path)
    for program in (again, interrupted, training):
        run(program)
    found, _, table = capsys.readouterr().out.partition(" inputs are there\n")
    assert 0 < int(found) <= 200_000
    assert table.startswith("200000\nlayer ")  # with those that were there, and none twice
    assert table.splitlines()[-2:] == ["544", "960"]  # after 17 steps, and all 30


def test_the_code_of_the_page_on_several_stores_runs(tmp_path, monkeypatch):
    *_, program = programs_of("docs/store.md")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the second time, all ranks resume
        names = {}
        exec(program, names)
        layer = names["every"]["layer"]
        assert layer.instance_count == layer.histogram().total == 400
        assert layer.histogram() == ts.count_states(ts.compress_states(names["inputs"]), 8)


@pytest.mark.parametrize(
    "document",
    [
        *sorted(
            path.relative_to(ROOT).as_posix()
            for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
        )
    ],
)
def test_links_and_paths_exist(document):
    text = (ROOT / document).read_text()
    links = re.findall(r"""(?:\]\(|src="|srcset=")(?!http)([\w./]+\.\w+)[)"]""", text)
    missing = [link for link in links if not (ROOT / document).parent.joinpath(link).exists()]
    assert not missing
