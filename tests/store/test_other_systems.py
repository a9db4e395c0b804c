"""What Windows and macOS do otherwise with files, as far as Linux can show it."""

import fcntl
import os

import pytest
import torch

import tensorstate_gpu as ts


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
