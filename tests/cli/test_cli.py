"""The command `tensorstate`, run as a user runs it: the demo, its report, mistakes, Ctrl-C."""

import gzip
import io
import json
import pickle
import re
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._cli.main import main
from tensorstate_gpu._cli.parser import new_parser
from tests.support.samples import thinned

HEADING = (
    "layer                  axis  neurons   states  distinct      entropy  efficiency  ceiling"
    "  coverage"
)


def tensorstate(*arguments):
    command = [sys.executable, "-m", "tensorstate_gpu", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)


@pytest.mark.parametrize(
    ("command", "what"), re.findall(r"\n    ([\w-]+) +(\w.*)", new_parser().format_help())
)
def test_the_help_of_a_command_says_what_it_does(command, what, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    _, _, shown = capsys.readouterr().out.partition("\n\n")
    words = " ".join(shown.split())
    assert words.lower().startswith("runs a model" if command == "capture" else what.lower())


def test_the_examples_of_the_help_are_commands(capsys):
    with pytest.raises(SystemExit):
        main(["capture", "--help"])
    examples = re.findall("^ +tensorstate (.*)", capsys.readouterr().out, re.MULTILINE)
    options = [new_parser().parse_args(shlex.split(example)) for example in examples]
    assert [each.model for each in options] == ["mine:model"] * 2


def table(output):
    """The lines of the table and of the measures below it."""
    lines = output.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("layer "))
    ends = [at for at, line in enumerate([*lines, ""]) if at > start and not line]
    return lines[start : ends[1]]  # the first empty line is below the table


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """What one epoch of the demo printed, and the folder where it saved it."""
    folder = tmp_path_factory.mktemp("demo") / "new" / "saved"
    done = tensorstate("demo", "--epochs", 1, "--save", folder)
    assert done.returncode == 0, done.stderr
    return done, folder


def test_the_demo_prints_its_table(saved):
    done, folder = saved
    lines = table(done.stdout)
    assert lines[0].startswith(HEADING)
    assert lines[0].endswith("quality")
    assert [line.split()[-1] for line in lines[2:5]] == ["good", "only", "only"]
    layers = {line.split()[0]: line.split()[1:5] for line in lines[2:5]}
    assert layers == {
        "conv_1_post_states": ["1", "layer", "20", "288,000"],
        "conv_2_post_states": ["1", "layer", "50", "32,000"],
        "conv_3_post_states": ["1", "layer", "100", "500"],
    }
    assert [re.split("  +", line)[0] for line in lines[6:]] == [
        "network efficiency",
        "accuracy",
        "aIQ (beta 2)",
        "at the ceiling",
    ]
    assert all("(bounds only: " in lines[place] for place in (6, 8))
    assert float(lines[7].split()[1]) > 30  # percent: one epoch learns something
    assert "1,297 images to learn from, 500 to judge and capture with" in done.stdout
    assert f"tensorstate report {folder}" in done.stdout


def test_the_saved_capture_is_the_one_that_was_reported(saved):
    _, folder = saved
    assert {file.name for file in folder.iterdir()} == {"states.zarr", "results.json"}
    results = json.loads((folder / "results.json").read_text())
    store = ts.Store(folder / "states.zarr")
    assert [layer["layer"] for layer in results["layers"]] == store.names
    for layer in results["layers"]:
        rows = np.concatenate(list(store[layer["layer"]].chunks()))
        counts = ts.count_states(rows, layer["neurons"])
        assert (counts.total, len(counts)) == (layer["states"], layer["distinct"])
        assert counts.entropy() == layer["entropy"]
    efficiencies = [layer["efficiency"] for layer in results["layers"]]
    assert results["network_efficiency"] == ts.network_efficiency(efficiencies)
    assert results["aiq"] == ts.aIQ(results["network_efficiency"], results["accuracy"], 2)


def test_report_prints_the_table_again(saved, capsys):
    done, folder = saved
    assert main(["report", str(folder)]) == 0
    out, errors = capsys.readouterr()
    assert all(re.match("counting: ", line) for line in errors.splitlines())  # if it is slow
    assert out.splitlines() == table(done.stdout)


def test_report_by_the_digits_that_were_saved(saved, capsys):
    _, folder = saved
    assert main(["report", str(folder), "--by-label", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    import sklearn.datasets

    digits = [int(digit) for digit in sklearn.datasets.load_digits().target]
    for layer in report["layers"]:
        by_label = report["labels"][layer["layer"]]
        assert [one["label"] for one in by_label] == sorted(set(digits))
        assert sum(one["states"] for one in by_label) == layer["states"]


def test_report_of_the_bare_states(saved, capsys):
    done, folder = saved
    assert main(["report", str(folder / "states.zarr")]) == 0
    without = [line for line in table(done.stdout) if not line.startswith(("accuracy", "aIQ"))]
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        line.split() for line in without
    ]


def test_the_demo_is_deterministic_by_its_seed(saved, capsys):
    tables = []
    for seed in ("0", "1"):
        assert main(["demo", "--epochs", "1", "--seed", seed]) == 0
        tables.append(table(capsys.readouterr().out))
    assert tables[0] == table(saved[0].stdout)
    assert tables[1][0] == tables[0][0]
    assert tables[1] != tables[0]


@pytest.fixture
def mnist():
    """Tiny training, validation and test splits in the form of mnist.pkl.gz."""
    rng = np.random.default_rng(0)

    def split(images):
        return rng.random((images, 784), np.float32), rng.integers(0, 10, images)

    return split(30), split(20), split(10)


def write(path, content):
    with gzip.open(path, "wb") as stream:
        stream.write(content if isinstance(content, bytes) else pickle.dumps(content))
    return path


@pytest.mark.parametrize("named", thinned(["file", "folder"], ["file"]))
def test_a_local_copy_of_mnist(named, mnist, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tensorstate_gpu._process.progress.SECONDS", 0)
    path = write(tmp_path / "mnist.pkl.gz", mnist)
    chosen = path if named == "file" else tmp_path
    page = tmp_path / "report.html"
    options = ["--epochs", "1", "--mnist", str(chosen), "--html", str(page)]
    assert main(["demo", *options]) == 0
    output, errors = capsys.readouterr()
    assert re.search(r"^training: 1 of 1 epochs, accuracy \d+\.\d%$", errors, re.MULTILINE)
    assert "capturing: 20 of 20 images\n" in errors
    assert "30 images to learn from, 20 to judge and capture with" in output
    assert [line.split()[4] for line in table(output)[2:5]] == ["11,520", "1,280", "20"]
    assert output.endswith(f"\nThe page with charts, to open in a browser: {page}\n")
    assert "<dt>inputs</dt><dd>MNIST</dd>" in page.read_text(encoding="utf-8")
    assert "report.html exists; it is not overwritten" in refused(capsys, "demo", *options)


def refused(capsys, *arguments):
    """The one line on stderr of a command that the user got wrong."""
    assert main([*map(str, arguments)]) == 2
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    (line,) = output.err.splitlines()
    assert line.startswith("tensorstate: ")
    return line


def test_a_missing_mnist_file(tmp_path, capsys):
    assert "nowhere.gz" in refused(capsys, "demo", "--mnist", tmp_path / "nowhere.gz")
    assert "mnist.pkl.gz" in refused(capsys, "demo", "--mnist", tmp_path)


GARBAGE = {
    "text": b"no gzip",
    "nothing": b"",
    "no pickle": gzip.compress(b"no pickle"),
    "empty": gzip.compress(b""),
    "cut short": gzip.compress(pickle.dumps(bytes(range(256)) * 40))[:-30],
    "broken inside": gzip.compress(b"x")[:10] + b"\xff" * 20,
    "wrong checksum": gzip.compress(pickle.dumps(3))[:-8] + bytes(8),
    "an unknown class": gzip.compress(b"cno_such_module\nname\n."),
    "an unknown name": gzip.compress(b"cos\nno_such_name\n."),
    "a pickle with a hole": gzip.compress(b"h\x05."),
    "an empty stack": gzip.compress(b"0."),
    "another object": gzip.compress(pickle.dumps(3)),
    "a dictionary": gzip.compress(pickle.dumps({"a": 1, "b": 2, "c": 3})),
    "three numbers": gzip.compress(pickle.dumps((1, 2, 3))),
    "texts": gzip.compress(pickle.dumps((("a", "b"),) * 3)),
    "small images": gzip.compress(pickle.dumps(((np.zeros((9, 700), "f4"), np.arange(9)),) * 3)),
    "too few labels": gzip.compress(pickle.dumps(((np.zeros((9, 784), "f4"), np.arange(8)),) * 3)),
    "label 10": gzip.compress(pickle.dumps(((np.zeros((11, 784), "f4"), np.arange(11)),) * 3)),
    "no images": gzip.compress(pickle.dumps(((np.zeros((0, 784), "f4"), np.arange(0)),) * 3)),
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_garbage_mnist_file(content, tmp_path, capsys):
    path = tmp_path / "garbage.gz"
    path.write_bytes(content)
    assert "garbage.gz is not a copy of mnist.pkl.gz" in refused(capsys, "demo", "--mnist", path)


def test_mnist_of_other_number_types(mnist, tmp_path, capsys):
    doubles = [(images.astype(float), labels.astype(np.uint8)) for images, labels in mnist]
    path = write(tmp_path / "doubles.gz", doubles)
    assert main(["demo", "--epochs", "1", "--mnist", str(path)]) == 0
    assert len(table(capsys.readouterr().out)) == 10


def test_bad_epochs(capsys):
    assert "epochs must be at least 1, got 0" in refused(capsys, "demo", "--epochs", 0)


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30])
def test_bad_seed(seed, capsys):
    assert f"seed must be from 0 to 2**63 - 1, got {seed}" in refused(
        capsys, "demo", "--seed", seed
    )


def test_a_folder_with_content_is_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    said = refused(capsys, "demo", "--save", tmp_path)  # one line: no bar of any progress
    assert re.fullmatch(
        r"tensorstate: .* is not empty; it is not overwritten: choose another", said
    )
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_in_the_place_of_the_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for folder in ("file", "file/inner", "file/inner/most"):  # told before the training
        line = refused(capsys, "demo", "--save", tmp_path / folder)
        assert "Not a directory" in line
        assert str(tmp_path / "file") in line
    assert (tmp_path / "file").read_text() == "mine"


def test_a_new_folder_within_that_of_another_demo(tmp_path, capsys):
    (tmp_path / "states.zarr").mkdir()
    said = refused(capsys, "demo", "--save", tmp_path / "new/inner", "--epochs", 0)
    assert "epochs must be at least 1" in said  # the folder is no obstacle


def test_report_of_nothing(tmp_path):
    done = tensorstate("report", tmp_path / "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    expected = f"{tmp_path / 'nowhere'} holds no captured states: there is no such folder"
    assert done.stderr == f"tensorstate: {expected}\n"


@pytest.mark.parametrize("content", ["", "[]", "{", "3", '{"accuracy": "high"}', '{"accuracy": 7}'])
def test_report_of_damaged_results(content, tmp_path, capsys):
    point = ts.CapturePoint("layer")
    point.declare(2)
    point.append(np.array([[0], [1]], np.uint8), 2)
    ts.Run([point]).save(tmp_path / "states.zarr")
    (tmp_path / "results.json").write_text(content)
    assert "results.json" in refused(capsys, "report", tmp_path)


def test_report_of_a_layer_without_rows(tmp_path, capsys):
    ts.CapturePoint("layer", tmp_path).declare(2)
    assert "layer" in refused(capsys, "report", tmp_path)


@pytest.mark.parametrize("arguments", [[], ["no such"], ["report"], ["demo", "--epochs", "x"]])
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert "usage: tensorstate" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert raised.value.code == 0
    assert capsys.readouterr().out == f"tensorstate_gpu {ts.__version__}\n"


def test_ctrl_c_stops_the_demo(tmp_path):
    module = [sys.executable, "-u", "-m", "tensorstate_gpu"]
    command = [*module, "demo", "--save", str(tmp_path / "new")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as demo:
        assert b"images to learn from" in demo.stdout.readline()
        time.sleep(1)  # now it trains
        demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=1200)
    # A shell says 130 of both. CPython dies of the signal if it came within exec() of a text,
    # with which modules create their dataclasses.
    assert demo.returncode in (130, -signal.SIGINT)
    assert b"Traceback" not in errors
    assert errors.rstrip().endswith(b"tensorstate: stopped")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("arguments", [["info", "nowhere"], ["report", "nowhere"]])
def test_a_program_that_calls_a_command_has_its_streams_back(arguments, monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), errors="strict"))
    assert main(arguments) == 2
    assert (sys.stdout.errors, sys.stderr.errors) == ("strict", "strict")
