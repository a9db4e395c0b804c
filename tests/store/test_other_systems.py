"""What Windows and macOS do otherwise with files, as far as Linux can show it."""

import errno
import fcntl
import os

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu.store import folder


def two_layers():
    return torch.nn.ModuleDict({"Gate": torch.nn.Linear(3, 2), "gate": torch.nn.Linear(3, 2)})


@pytest.fixture
def store(tmp_path):
    with ts.Store(tmp_path / "run.zarr", "x") as store:
        yield store


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_layers_that_differ_in_capital_letters_do_not_share_a_folder(store, keep, tmp_path):
    # Where case is ignored, a file has both names. A link says the same here.
    (tmp_path / "run.zarr" / "ZARR.JSON").symlink_to("zarr.json")
    with pytest.raises(ValueError, match=r"capital letters .*'gate_post_states' .*'Gate_post"):
        ts.build_efficiency_model(two_layers(), "*", storage_path=store, keep=keep)


def test_a_name_that_no_layer_has_taken_is_in_nobodys_way(store, tmp_path):
    (tmp_path / "run.zarr" / "ZARR.JSON").symlink_to("zarr.json")
    store.session.writer.check_folder_of("Gate")  # only asked for: it is no layer
    store.session.writer.check_folder_of("gate")


def test_a_name_that_is_free_again_goes_to_the_next_one(store, tmp_path):
    (tmp_path / "run.zarr" / "ZARR.JSON").symlink_to("zarr.json")
    ts.CapturePoint("Gate", store).intake.sink.release_name()
    ts.CapturePoint("gate", store)
    with pytest.raises(ValueError, match=r"capital letters .*'Gate' .*'gate'"):
        ts.CapturePoint("Gate", store)


def test_where_case_counts_both_are_captured(store):
    model = two_layers()
    ts.build_efficiency_model(model, "*", storage_path=store)
    for name, inputs in (("Gate", 4), ("gate", 5)):
        model[name](torch.ones(inputs, 3))
    store.commit()
    assert [store[name].state_count for name in ("Gate", "gate")] == [4, 5]


def test_files_are_synced_by_descriptors_that_may_write(tmp_path, monkeypatch):
    """As Windows wants it; it has no descriptors of folders."""
    flags = []
    fsync = os.fsync

    def noting(descriptor):
        kind = "folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file"
        flags.append((kind, fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    with ts.Store(tmp_path / "run.zarr", "x", durability="power"):
        pass
    assert {*flags} == {("file", os.O_RDWR), ("folder", os.O_RDONLY)}


NOT_ON_WINDOWS = ("aux.0", "CON", "nul", "com1.relu", "LPT9", "Prn .x", "dot.", "blank ")


@pytest.mark.parametrize("name", NOT_ON_WINDOWS)
def test_names_that_windows_does_not_have(name, store, monkeypatch):
    ts.CapturePoint(name, store)  # elsewhere it is one like others
    monkeypatch.setattr(folder, "_IS_WINDOWS", True)
    with ts.Store(f"{store}-2", "x") as other:
        with pytest.raises(
            ValueError, match=r"Windows cannot have a folder '.*': .* there; exclude="
        ):
            ts.CapturePoint(name, other)
        other.commit()
        assert other.names == []
    ts.CapturePoint(name, f"memory://{name}")


@pytest.mark.parametrize("name", ["auxiliary", "com", "com10", "conv.con", "x.aux", "0_pre_states"])
def test_names_that_windows_has(name, store, monkeypatch):
    monkeypatch.setattr(folder, "_IS_WINDOWS", True)
    ts.CapturePoint(name, store)


@pytest.mark.parametrize("times", [1, 3, 100])
def test_a_record_that_another_program_reads_is_replaced_a_little_later(
    times, tmp_path, monkeypatch
):
    """Windows replaces no file that is open."""
    replace, left = os.replace, [times]

    def refusing(source, target):
        if target.name == "zarr.json" and left[0]:
            left[0] -= 1
            raise PermissionError(errno.EACCES, "Access is denied", target)
        replace(source, target)

    monkeypatch.setattr(folder, "_IS_WINDOWS", True)
    monkeypatch.setattr(folder.time, "sleep", lambda _: None)
    store = ts.Store(tmp_path / "run.zarr", "x", commit_seconds=None)
    point = ts.CapturePoint("layer", store)
    point.declare(neurons=2)
    point.append(np.ones((3, 1), np.uint8), instances=3)
    monkeypatch.setattr(os, "replace", refusing)
    if times == 100:
        with pytest.raises(PermissionError):
            store.commit()
        left[0] = 0
    store.close()
    assert ts.Store(tmp_path / "run.zarr")["layer"].state_count == 3
