"""What stores refuse: at once, saying what came and what is accepted; nothing lost or created."""

import errno
import json
import math
import sys
from fractions import Fraction
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr

import tensorstate_gpu as ts
from tensorstate_gpu.store.documents import KEY, group_document, with_checksum
from tensorstate_gpu.store.folder_lock import FolderLock
from tests.support.closed_store import ROWS, content
from tests.support.ids import plain
from tests.support.points import new_point

# ---- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w", "r+", "w-", "R", "", None, b"r", True, ["a"], 0])
def test_bad_modes(mode, tmp_path, stored):
    before = content(tmp_path)
    for path in (stored, tmp_path / "new"):
        with pytest.raises(ValueError, match=r"mode must be one of \('r', 'x', 'a'\), got .+"):
            ts.Store(path, mode)
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"durability": "disk"}, ValueError, r"one of \('process', 'power'\), got 'disk'"),
        ({"durability": None}, ValueError, "durability must be one of .*got None"),
        ({"durability": True}, ValueError, "durability must be one of .*got True"),
        (
            {"commit_rows": 0},
            ValueError,
            "commit_rows must be greater than 0, got 0",
        ),
        (
            {"commit_rows": np.int64(-1)},
            ValueError,
            "commit_rows must be greater than 0, got -1",
        ),
        ({"commit_rows": True}, TypeError, "commit_rows must be an integer, got bool"),
        ({"commit_rows": "5"}, TypeError, "commit_rows must be an integer, got str '5'"),
        ({"commit_rows": 1e3}, TypeError, "commit_rows must be an integer, got float 1000.0"),
        ({"commit_rows": math.nan}, TypeError, "commit_rows must be an integer, got float nan"),
        ({"commit_rows": [5]}, TypeError, "commit_rows must be an integer, got list"),
        (
            {"commit_seconds": 0},
            ValueError,
            "commit_seconds must be greater .*, got 0.0",
        ),
        (
            {"commit_seconds": -1},
            ValueError,
            "commit_seconds must be greater .*, got -1.0",
        ),
        ({"commit_seconds": math.nan}, ValueError, "commit_seconds must be .*got nan"),
        ({"commit_seconds": math.inf}, ValueError, "commit_seconds must be .*got inf"),
        ({"commit_seconds": 10**400}, ValueError, "commit_seconds is too large for a float"),
        ({"commit_seconds": True}, TypeError, "commit_seconds must be a real number, got bool"),
        ({"commit_seconds": "5"}, TypeError, "commit_seconds must be a real number, got str"),
        ({"commit_seconds": 1j}, TypeError, "commit_seconds must be a real number, got complex"),
        ({"commit_seconds": np.ones(1)}, TypeError, "commit_seconds must be .*got ndarray"),
        ({"compressor": "zstd"}, TypeError, "a zarr codec such as .*got str 'zstd'"),
        ({"compressor": True}, TypeError, "a zarr codec such as .*got bool True"),
        ({"compressor": {"name": "zstd"}}, TypeError, "a zarr codec such as .*got dict"),
        ({"compressor": zarr.codecs.ZstdCodec}, TypeError, "a zarr codec such as .*got type"),
        ({"compressor": zarr.codecs.BytesCodec()}, TypeError, "a zarr codec such as .*BytesCodec"),
        ({"compressor": numcodecs.Zstd()}, TypeError, "a zarr codec such as .*got Zstd"),
    ],
    ids=plain,
)
def test_bad_options(options, error, message, tmp_path):
    for mode in "rxa":
        with pytest.raises(error, match=message):
            ts.Store(tmp_path / "run", mode, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        {"commit_rows": np.int64(5)},
        {"commit_rows": 2**70},
        {"commit_seconds": np.float32(0.5)},
        {"commit_seconds": Fraction(1, 2)},
        {"commit_seconds": np.int8(1)},
        {"commit_seconds": None},
        {"compressor": zarr.codecs.GzipCodec(level=1)},
        {"compressor": zarr.codecs.BloscCodec()},
    ],
    ids=plain,
)
def test_options_of_other_kinds(options, tmp_path):
    with ts.Store(tmp_path, "x", **options) as store:
        new_point(store).append(ROWS, 35)
    np.testing.assert_array_equal(ts.Store(tmp_path)["layer"][:], ROWS)


# ---- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "sub", "sub/run.zarr"])
def test_a_file_in_the_way(below, tmp_path):
    (tmp_path / "file").write_text("mine")
    before = content(tmp_path)
    path = tmp_path / "file" / below
    for mode in "rxa":
        with pytest.raises((ValueError, OSError), match=f"{tmp_path}/file"):
            ts.Store(path, mode)
    with pytest.raises((ValueError, OSError), match=f"{tmp_path}/file"):
        ts.CapturePoint("layer", path)
    assert content(tmp_path) == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize("path", ["/proc/run.zarr", "/proc/self/runs/run.zarr"])
def test_a_folder_where_nothing_can_be_created(path):
    for mode in "xa":
        with pytest.raises(OSError, match="No such file or directory: '/proc"):
            ts.Store(path, mode)
    with pytest.raises(ValueError, match=f"{path} holds no captured states"):
        ts.Store(path)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("", ValueError, "path must not be empty"),
        ("run\0.zarr", ValueError, r"must not hold a zero character, got 'run\\x00.zarr'"),
        ("file://", ValueError, "file:///and/a/path, got file://"),
        ("file://run.zarr", ValueError, "file:///and/a/path, got file://run.zarr"),
        ("file://server/run.zarr", ValueError, "file:///and/a/path, got file://server/run.zarr"),
        (Path("s3://bucket/run.zarr"), ValueError, "URL must be a str.*s3:/bucket/run.zarr"),
        (Path("file:///run.zarr"), ValueError, "URL must be a str.*file:/run.zarr"),
        (b"run", TypeError, "must be a str, a path or an obstore store, got bytes"),
        (None, TypeError, "must be a str, a path or an obstore store, got NoneType"),
        (["run"], TypeError, "must be a str, a path or an obstore store, got list"),
        (Path, TypeError, "must be a str, a path or an obstore store, got type"),
    ],
    ids=repr,
)
def test_bad_paths(path, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for mode in "rxa":
        with pytest.raises(error, match=message):
            ts.Store(path, mode)
    assert list(tmp_path.iterdir()) == []


def test_file_urls(tmp_path):
    folder = tmp_path / "größer 100 %25"
    with ts.Store(folder.as_uri(), "x") as store:
        new_point(store).append(ROWS, 35)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert ts.Store(folder)["layer"].state_count == 35


# ---- batches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["integers", "strings"])
@pytest.mark.parametrize(
    ("batch", "labels", "error", "message"),
    [
        (ROWS, [1] * 34, ValueError, r"one for each of the 35 instances, got shape \(34,\)"),
        (ROWS, [0.5] * 35, TypeError, "labels must be integers or strings, got float64"),
        (ROWS, [None] * 35, TypeError, "labels must be integers or strings"),
        (ROWS, ["a", 1] * 35, TypeError, "all integers or all strings, got int too"),
        (ROWS[:, :1], None, ValueError, r"of shape \(states, 2\), got uint8 of shape \(35, 1\)"),
        (ROWS.repeat(2, 1), None, ValueError, r"of shape \(states, 2\), .* of shape \(35, 4\)"),
        (ROWS.astype(float), None, ValueError, r"must be uint8 .*, got float64 of shape"),
        (ROWS[0], None, ValueError, r"of shape \(states, 2\), got uint8 of shape \(2,\)"),
        (ROWS.tolist(), None, TypeError, "packed must be a NumPy array, got list"),
    ],
)
def test_bad_batches_change_nothing(batch, labels, error, message, kind, tmp_path):
    good = np.arange(35) if kind == "integers" else np.array(["größer"] * 35)
    with ts.Store(tmp_path, "x") as store:
        point = new_point(store)
        for committed in (0, 35):  # before there is anything, and after a commit
            with pytest.raises(error, match=message):
                point.append(batch, 35, labels)
            assert (point.state_count, point.instance_count) == (committed, committed)
            point.append(ROWS, 35, good)
            store.commit()
    layer = ts.Store(tmp_path)["layer"]
    np.testing.assert_array_equal(layer[:], np.concatenate([ROWS, ROWS]))
    assert layer.labels().tolist() == [*good.tolist(), *good.tolist()]


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize(
    ("first", "second", "error", "message"),
    [
        (np.arange(35), ["a"] * 35, TypeError, "labels in this store are integers, got strings"),
        (["a"] * 35, np.arange(35), TypeError, "labels in this store are strings, got integers"),
        (np.arange(35), np.full(35, 2**63, np.uint64), ValueError, r"below 2\*\*63, got 9223"),
    ],
)
def test_labels_of_another_kind(first, second, error, message, resumed, tmp_path):
    store = ts.Store(tmp_path, "x")
    point = new_point(store)
    point.append(ROWS, 35, first)
    if resumed:
        store.close()
        store = ts.Store(tmp_path, "a")
        point = new_point(store)
    with pytest.raises(error, match=message):
        point.append(ROWS, 35, second)
    point.append(ROWS[:3], 3, first[:3])
    store.close()
    layer = ts.Store(tmp_path)["layer"]
    np.testing.assert_array_equal(layer[:], np.concatenate([ROWS, ROWS[:3]]))
    assert layer.labels().tolist() == [*first, *first[:3]]


# ---- documents of others -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["r", "a"])
def test_a_newer_format(mode, stored):
    about = {"format": 5, "version": "9.1", "something": "new"}
    (stored / KEY).write_bytes(group_document({"tensorstate": about}))
    before = content(stored)
    for _ in range(2):
        with pytest.raises(
            ValueError, match=r"has format 5, this version reads 2, 3, 4; .*gpu 9.1"
        ):
            ts.Store(stored, mode)
    assert content(stored) == before


OF_LAYER = ("attributes", "tensorstate", "layers", "layer")
MISSING = object()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("attributes", "tensorstate", "layers"), None),
        (("attributes", "tensorstate", "layers"), ["layer"]),
        (("attributes", "tensorstate", "layers"), MISSING),
        (("attributes", "tensorstate", "commits"), -1),
        (("attributes", "tensorstate", "commits"), True),
        (("attributes", "tensorstate", "started"), MISSING),
        (("attributes", "tensorstate", "closed"), 1),
        (("attributes", "tensorstate", "run"), 5),
        (OF_LAYER, 5),
        (OF_LAYER, {}),
        ((*OF_LAYER, "neurons"), 0),
        ((*OF_LAYER, "neurons"), "16"),
        ((*OF_LAYER, "capture"), None),
        ((*OF_LAYER, "batches"), [[35]]),
        ((*OF_LAYER, "batches"), [[34, 1]]),
        ((*OF_LAYER, "batches"), [[-35, -1]]),
        ((*OF_LAYER, "batches"), "35"),
        ((*OF_LAYER, "instances"), 34),
        ((*OF_LAYER, "instances"), MISSING),
        ((*OF_LAYER, "ledger"), []),
        ((*OF_LAYER, "ledger"), {"rows": -1, "chunk_rows": 1, "crc32c": ""}),
        ((*OF_LAYER, "states"), None),
        ((*OF_LAYER, "states", "rows"), 36),
        ((*OF_LAYER, "states", "rows"), 35.0),
        ((*OF_LAYER, "states", "rows"), 10**400),
        ((*OF_LAYER, "states", "chunk_rows"), 0),
        ((*OF_LAYER, "states", "chunk_rows"), 1),
        ((*OF_LAYER, "states", "crc32c"), "nonsense!"),
        ((*OF_LAYER, "states", "crc32c"), ""),
        ((*OF_LAYER, "states", "crc32c"), [1]),
        ((*OF_LAYER, "labels"), "none"),
        ((*OF_LAYER, "labels", "rows"), -1),
    ],
    ids=lambda part: "/".join(part) if isinstance(part, tuple) else None,
)
def test_nonsense_under_a_valid_checksum(place, value, stored):
    document = json.loads((stored / KEY).read_text())
    holder = document
    for key in place[:-1]:
        holder = holder[key]
    if value is MISSING:
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    (stored / KEY).write_bytes(with_checksum(document))
    before = content(stored)
    for mode in "rax":
        expected = "run exists and is not empty" if mode == "x" else r"run/zarr.json is damaged: "
        with pytest.raises(ValueError, match=expected):
            ts.Store(stored, mode)
    assert content(stored) == before


def test_a_folder_that_cannot_be_locked_is_not_left(tmp_path, monkeypatch):
    def acquire(lock, folder):
        raise OSError(errno.ENOLCK, "No locks available", str(folder))

    monkeypatch.setattr(FolderLock, "acquire", acquire)
    with pytest.raises(OSError, match="No locks available"):
        ts.Store(tmp_path / "new" / "run.zarr", "x")
    assert list(tmp_path.iterdir()) == []
