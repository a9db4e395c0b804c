"""Stored states that were damaged, deleted or could not be written: told, and none lost."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu._cli.main import main
from tensorstate_gpu.store.documents import with_checksum
from tests.support.points import new_point

ROWS = np.random.default_rng(0).integers(0, 256, (35, 2)).astype(np.uint8)


@pytest.fixture
def stored(tmp_path, small_chunks):
    """A point with 35 rows of 16 neurons on disk, in chunks of ten."""
    point = new_point(tmp_path / "run")
    point.append(ROWS, 35)
    point.flush()
    return point


def missing(file):
    file.unlink()


def truncated(file):
    file.write_bytes(file.read_bytes()[:-3])


def emptied(file):
    file.write_bytes(b"")


def flipped(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("chunk", [0, 1, 3])
@pytest.mark.parametrize("damage", [missing, truncated, emptied, flipped])
def test_a_damaged_chunk_is_named(damage, chunk, stored, tmp_path, capsys):
    damage(tmp_path / f"run/layer/c/{chunk}/0")
    named = rf"layer/c/{chunk}/0 is (missing|damaged)"
    with pytest.raises(ValueError, match=named):
        list(ts.Store(tmp_path / "run")["layer"].chunks())
    assert main(["report", str(tmp_path / "run")]) == 2
    assert f"{chunk}/0 is" in capsys.readouterr().err


@pytest.mark.parametrize("chunk", [1, 3])  # a whole one, and the tail
def test_a_chunk_of_another_commit_is_named(chunk, stored, tmp_path):
    other = new_point(tmp_path / "other")
    other.append(ROWS[::-1].copy(), 35)
    other.flush()
    shutil.copy(tmp_path / f"other/layer/c/{chunk}/0", tmp_path / f"run/layer/c/{chunk}/0")
    with pytest.raises(ValueError, match=rf"{chunk}/0 is damaged: it is not what was committed"):
        list(ts.Store(tmp_path / "run")["layer"].chunks())


@pytest.mark.parametrize("damage", [missing, truncated])
def test_a_chunk_damaged_during_the_capture_is_named(damage, stored, tmp_path):
    damage(tmp_path / "run/layer/c/1/0")
    with pytest.raises(ValueError, match=r"c.1.0 is (missing|damaged)"):
        stored.counts()


def nested(file):
    file.write_bytes(b"[" * 100_000)


@pytest.mark.parametrize("file", ["zarr.json", "layer/zarr.json"])
@pytest.mark.parametrize("damage", [truncated, emptied, flipped, nested])
def test_damaged_metadata_is_named(damage, file, stored, tmp_path):
    damage(tmp_path / "run" / file)
    with pytest.raises(ValueError, match=rf"run/{file} is damaged"):
        list(ts.Store(tmp_path / "run")["layer"].chunks())


def test_a_failed_write_is_told_and_tried_again(stored, tmp_path):
    # A file where the folder of the next chunk would be.
    (tmp_path / "run/layer/c/4").write_text("")
    stored.append(ROWS[:20], 20)
    with pytest.raises(OSError, match=r"c.4"):
        stored.flush()
    np.testing.assert_array_equal(ts.Store(tmp_path / "run")["layer"][:], ROWS)
    (tmp_path / "run/layer/c/4").unlink()
    stored.append(ROWS[:20], 20)
    stored.flush()
    expected = np.concatenate([ROWS, ROWS[:20], ROWS[:20]])
    np.testing.assert_array_equal(stored.raw_states, expected)
    np.testing.assert_array_equal(ts.Store(tmp_path / "run")["layer"][:], expected)


FULL_DISK = """
import resource, signal, sys
import numpy as np
import tensorstate_gpu as ts
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
rows = np.random.default_rng(0).integers(0, 256, (1 << 18, 16)).astype(np.uint8)  # one chunk
point = ts.CapturePoint("layer", sys.argv[1])
point.declare(128)
point.append(rows, len(rows))
point.flush()
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
refused = 0
for attempt in range(100):
    try:
        point.append(rows, len(rows))
    except OSError:
        refused += 1
print("refused" if refused else "never", point.state_count == (101 - refused) * len(rows))
print("committed", ts.Store(sys.argv[1])["layer"].state_count)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
point.flush()
print("room again", point.state_count == point.histogram().total, point.state_count)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits are POSIX")
def test_a_full_disk(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    refused, committed, again = done.stdout.splitlines()
    assert (refused, committed) == ("refused True", f"committed {2**18}")
    assert again.startswith("room again True")
    stored = ts.Store(tmp_path / "run")["layer"]
    assert stored.state_count == stored.histogram().total == int(again.split()[-1])


def test_capturing_into_a_deleted_folder_is_told(stored, tmp_path):
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(RuntimeError, match="run was deleted while states were captured"):
        stored.append(ROWS, 35)
    assert not (tmp_path / "run").exists()


DELETED_AT_THE_END = """
import shutil, sys
import numpy as np
import tensorstate_gpu as ts
from tensorstate_gpu.store.folder import FileSystemCalls, Folder


class Deleting(FileSystemCalls):
    def replace(self, source, target):
        shutil.rmtree(sys.argv[1])
        super().replace(source, target)


point = ts.CapturePoint("layer", sys.argv[1])
point.declare(16)
point.append(np.ones((35, 2), np.uint8), 35)
Folder.system = Deleting()
"""


def test_a_folder_that_is_deleted_before_the_end_is_told_in_one_line(tmp_path):
    command = [sys.executable, "-c", DELETED_AT_THE_END, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0
    expected = f"captured states could not be written: {tmp_path / 'run'} was deleted\n"
    assert done.stderr == expected


def test_a_deleted_folder_can_be_used_again(stored, tmp_path):
    waiting = ts.CapturePoint("waiting", tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    again = new_point(tmp_path / "run")
    again.append(ROWS[:12], 12)
    for old in (stored, waiting):
        with pytest.raises(RuntimeError, match="run was deleted while states were captured"):
            old.intake.record(ROWS[:1], 16, 1, 1)
        old.flush()  # all that it took was committed
    waiting.reset_states()  # starts in the new store
    waiting.declare(16)
    waiting.append(ROWS[:5], 5)
    again.flush()
    waiting.flush()
    store = ts.Store(tmp_path / "run")
    assert store.names == ["layer", "waiting"]
    np.testing.assert_array_equal(np.concatenate(list(store["layer"].chunks())), ROWS[:12])


def test_a_name_that_was_given_up_leaves_no_store(tmp_path):
    first, second = ts.CapturePoint("a", tmp_path / "run"), ts.CapturePoint("b", tmp_path / "run")
    first.intake.sink.release_name()
    assert (tmp_path / "run/zarr.json").exists()
    second.intake.sink.release_name()
    assert not (tmp_path / "run/zarr.json").exists()
    new_point(tmp_path / "run").append(ROWS, 35)


@pytest.mark.parametrize("path", ["nonsense://bucket/run", b"run", 5, ""])
def test_paths_that_no_store_can_have(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((TypeError, ValueError), match=r"store"):
        ts.CapturePoint("layer", path)
    assert list(tmp_path.iterdir()) == []


def test_a_name_too_long_for_a_folder_is_refused_at_once(tmp_path):
    for name in ("x" * 256, "ü" * 43):
        with pytest.raises(ValueError, match="at most 255 bytes, got 25"):
            ts.CapturePoint(name, tmp_path / "run")
        point = ts.CapturePoint(name)
        point.declare(16)
        point.append(ROWS, 35)
        with pytest.raises(ValueError, match="at most 255 bytes"):
            ts.Run([point]).save(tmp_path / "saved")
        assert not (tmp_path / "saved").exists()
    new_point(tmp_path / "longest", "x" * 255).append(ROWS, 35)


@pytest.mark.parametrize("path", ["link", "link/run", "loop/run"])
@pytest.mark.parametrize("mode", ["x", "a"])
def test_a_link_that_leads_nowhere(mode, path, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ValueError, match=r"(link|loop) is a link to .*, which is not there"):
        ts.Store(tmp_path / path, mode)
    assert {each.name for each in tmp_path.iterdir()} == {"link", "loop"}


def test_a_folder_that_cannot_be_made_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="name too long"):
        ts.Store(tmp_path / "new" / ("x" * 300) / "run", "x")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"file is no folder: there is no room for .*file/sub/run"):
        ts.Store(tmp_path / "file" / "sub" / "run", "x")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"shape": False}, "a shape of False"),
        ({"chunk_grid": {"name": "regular"}}, "no chunk shape"),
        ({"codecs": [{"name": "nonsense"}]}, "zarr cannot read it"),
        ({"shape": [35, 3]}, r"chunks of \(10, 2\) in \(35, 3\)"),
    ],
)
def test_nonsense_with_a_good_checksum_is_named(change, told, stored, tmp_path):
    file = tmp_path / "run/layer/zarr.json"
    file.write_bytes(with_checksum({**json.loads(file.read_text()), **change}))
    with pytest.raises(ValueError, match=rf"layer/zarr.json is damaged: {told}"):
        ts.Store(tmp_path / "run")["layer"][:]


def test_a_record_of_other_neurons_than_the_array_is_told(stored, tmp_path):
    record = ts.Store(tmp_path / "run").record
    layer = dataclasses.replace(record.layers["layer"], neurons=3)
    changed = dataclasses.replace(record, layers={"layer": layer})
    (tmp_path / "run/zarr.json").write_bytes(changed.to_bytes())
    with pytest.raises(ValueError, match=r"layer/zarr.json is damaged: chunks of \(10, 2\)"):
        ts.Store(tmp_path / "run")["layer"][:]
