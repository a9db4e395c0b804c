"""When rows are committed, what a reader sees meanwhile, and how far the writer may fall behind."""

import threading
import time

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu._layers.instance_notes import NOTHING
from tensorstate_gpu.store import background_writer
from tensorstate_gpu.store.folder import FileSystemCalls, Folder
from tests.support.waiting import wait_until

ROWS = np.random.default_rng(0).integers(0, 256, (100, 2)).astype(np.uint8)


def points_in(store, names="ab"):
    points = [ts.CapturePoint(name, store) for name in names]
    for point in points:
        point.declare(16)
    return points


def committed(path):
    return {name: layer.state_count for name, layer in layers_of(path).items()}


def layers_of(path):
    return {layer.name: layer for layer in ts.Store(path).efficiency_layers}


def test_commit_rows_commits_whole_forward_passes(tmp_path, small_chunks):
    path = tmp_path / "run"
    store = ts.Store(path, "x", commit_rows=30, commit_seconds=None)
    first, second = points_in(store)
    seen = []
    for k in range(9):
        for point in (first, second):
            point.append(ROWS[7 * k : 7 * k + 7], 7)
            store.session.writer._background.wait()
            seen.append(committed(path))
    # 14 rows a pass: after the third one 42 are due, and written when the fourth one begins.
    assert seen[5] == {}
    assert seen[6] == seen[11] == {"a": 21, "b": 21}
    assert seen[12] == {"a": 42, "b": 42}
    assert all(found.get("a") == found.get("b") for found in seen)
    store.close()
    for layer in layers_of(path).values():
        np.testing.assert_array_equal(layer[:], ROWS[:63])


def test_commits_in_the_background_have_whole_batches_with_their_labels(tmp_path, small_chunks):
    path = tmp_path / "run"
    store = ts.Store(path, "x", commit_rows=1, commit_seconds=None)
    points = points_in(store)
    for k in range(60):
        batch = ROWS[: 1 + k % 30]
        for point in points:
            point.append(batch, len(batch), [k] * len(batch))
        if k % 5 == 3:
            store.session.writer._background.wait()  # so that there are many commits
        if k % 30 == 9:  # readers see whole passes, whatever is written just now
            layers = layers_of(path)
            assert len({layer.instance_count for layer in layers.values()}) <= 1
            for layer in layers.values():
                if layer.state_count:
                    assert len(layer.labels()) == len(layer[:]) == layer.instance_count
    store.close()
    assert store.record.commits > 10
    expected = np.concatenate([ROWS[: 1 + k % 30] for k in range(60)])
    for layer in layers_of(path).values():
        np.testing.assert_array_equal(layer[:], expected)


def test_commit_seconds(tmp_path):
    path = tmp_path / "run"
    store = ts.Store(path, "x", commit_seconds=0.2)
    first, second = points_in(store)
    for _ in range(3):
        first.append(ROWS, 100)
        second.append(ROWS, 100)
    # Nothing comes any more: committed all the same.
    wait_until(lambda: committed(path) == {"a": 300, "b": 300})
    commits = ts.Store(path).record.commits  # 1, unless this thread had to wait for its turn above
    assert 1 <= commits <= 3
    time.sleep(0.6)
    assert ts.Store(path).record.commits == commits  # nothing new, nothing written


def test_commit_seconds_of_a_run_that_comes_later(tmp_path):
    """An earlier one has seen another number of inputs, and sees no more."""
    path = tmp_path / "run"
    store = ts.Store(path, "x", commit_seconds=0.2)
    first, second = points_in(store)
    first.append(ROWS, 100)
    first.close()
    for _ in range(3):
        second.append(ROWS, 100)
    wait_until(lambda: committed(path) == {"a": 100, "b": 300})


def test_no_idle_commit_divides_a_pass_whose_rows_are_in_transit_from_a_device(tmp_path):
    path = tmp_path / "run"
    store = ts.Store(path, "x", commit_seconds=0.05)
    points, batches = points_in(store), ((100, 1),)
    points[0].append(ROWS, 100)
    writer = points[1].intake.accumulator._storage
    writer.ledger.add(batches)  # as for a batch on a device, until it has arrived
    time.sleep(0.5)  # idle for long
    assert committed(path) == {}
    writer.add_arrived(ROWS, batches, NOTHING)
    wait_until(lambda: committed(path) == {"a": 100, "b": 100})


def test_a_layer_that_came_first_and_comes_no_more(tmp_path):
    path = tmp_path / "run"
    store = ts.Store(path, "x", commit_rows=1, commit_seconds=None)
    first, second = points_in(store)
    first.append(ROWS, 100)
    for _ in range(50):
        second.append(ROWS, 100)
    store.session.writer._background.wait()
    assert committed(path)["b"] > 100


def test_a_reader_sees_what_was_committed_when_it_was_opened(tmp_path, small_chunks):
    store = ts.Store(tmp_path / "run", "x", commit_seconds=None)
    (point,) = points_in(store, "a")
    point.append(ROWS[:15], 15)
    store.commit()
    reader = ts.Store(tmp_path / "run")["a"]
    point.append(ROWS[15:37], 22)
    np.testing.assert_array_equal(reader[:], ROWS[:15])
    store.commit()
    np.testing.assert_array_equal(reader[:], ROWS[:15])
    np.testing.assert_array_equal(ts.Store(tmp_path / "run")["a"][12:], ROWS[12:37])
    np.testing.assert_array_equal(store["a"][:], ROWS[:37])  # its own last commit


class SlowSystem(FileSystemCalls):
    """A disk that waits until it may go on."""

    def __init__(self):
        self.may_go_on = threading.Event()

    def write(self, path, parts):
        assert self.may_go_on.wait(600)
        super().write(path, parts)


def test_the_model_goes_on_until_too_much_waits_to_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(background_writer, "MAX_QUEUED_BYTES", 10_000)
    store = ts.Store(tmp_path / "run", "x", commit_seconds=None, chunk_bytes=2000)
    (point,) = points_in(store, "a")
    slow = SlowSystem()
    monkeypatch.setattr(Folder, "system", slow)
    done = []

    def capture():
        for _ in range(300):
            point.append(ROWS, 100)  # 200 bytes
            done.append(1)

    model = threading.Thread(target=capture)
    model.start()
    wait_until(lambda: len(done) == 50)  # ten thousand bytes are waiting
    time.sleep(0.1)
    assert len(done) == 50
    slow.may_go_on.set()
    model.join(600)
    assert len(done) == 300
    store.close()
    assert committed(tmp_path / "run") == {"a": 30_000}


def test_a_capture_goes_on_where_it_was_committed(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.ReLU(), torch.nn.Linear(16, 8))
    batches = torch.randn(10, 20, 3)
    with ts.capture(model, "Linear") as whole:
        for batch in batches:
            model(batch)
    for part in (batches[:6], batches[6:]):
        with (
            ts.Store(tmp_path / "run", "a") as store,
            ts.capture(model, "Linear", storage_path=store) as run,
        ):
            assert run.instance_count == (0 if len(part) == 6 else 120)
            for batch in part:
                model(batch)
    stored = ts.Store(tmp_path / "run")
    assert stored.names == list(whole)
    for name in whole:
        assert stored[name].histogram() == whole[name].histogram() == run[name].histogram()
        np.testing.assert_array_equal(stored[name][:], whole[name].raw_states)
    assert str(stored.report()) == str(whole.report())


def enter(captured):
    return captured.__enter__()


def test_a_model_with_other_layers_is_refused_and_the_right_one_goes_on(tmp_path):
    right = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    smaller = torch.nn.Sequential(right[0])
    larger = torch.nn.Sequential(*right, torch.nn.Linear(2, 2))
    with ts.capture(right, "Linear", storage_path=tmp_path / "run") as run:
        right(torch.ones(5, 3))
    del run
    for instances, attach in ((10, ts.capture), (15, ts.build_efficiency_model)):
        with ts.Store(tmp_path / "run", "a") as store:
            with pytest.raises(ValueError, match=r"holds \['1_post_states'\] too"):
                enter(attach(smaller, "Linear", storage_path=store))
            with pytest.raises(ValueError, match="and not '2_post_states'"):
                enter(attach(larger, "Linear", storage_path=store))
            assert not right[0]._forward_hooks
            with ts.capture(right, "Linear", storage_path=store) as run:
                right(torch.ones(5, 3))
            assert run.instance_count == instances


def test_a_program_that_forgets_to_close_loses_nothing(tmp_path):
    store = ts.Store(tmp_path / "run", "x")
    (point,) = points_in(store, "a")
    point.append(ROWS, 100)
    del store, point
    with ts.Store(tmp_path / "run", "a") as store:  # waits for what is still being written
        (point,) = points_in(store, "a")
        assert point.state_count == 100
        point.append(ROWS, 100)
    assert committed(tmp_path / "run") == {"a": 200}


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint64, np.int64])
def test_labels_of_any_integer_type_fill_many_chunks_at_once(dtype, tmp_path, small_chunks):
    labels = (np.arange(100) % 50).astype(dtype)
    with ts.Store(tmp_path / "run", "x") as store:
        (point,) = points_in(store, "a")
        point.append(ROWS, 100, labels)
    np.testing.assert_array_equal(ts.Store(tmp_path / "run")["a"].labels(), labels)


def test_a_compressor_shrinks_the_rows(tmp_path):
    from zarr.codecs import ZstdCodec

    for name, compressor in (("plain", None), ("zstd", ZstdCodec(level=1))):
        with ts.Store(tmp_path / name, "x", compressor=compressor) as store:
            (point,) = points_in(store, "a")
            for _ in range(1000):
                point.append(ROWS, 100)
        np.testing.assert_array_equal(ts.Store(tmp_path / name)["a"][:], np.tile(ROWS, (1000, 1)))
    sizes = {
        name: sum(file.stat().st_size for file in (tmp_path / name).rglob("*") if file.is_file())
        for name in ("plain", "zstd")
    }
    assert sizes["zstd"] * 10 < sizes["plain"]


def test_a_short_capture_is_not_padded_to_a_large_chunk(tmp_path):
    with ts.Store(tmp_path / "run", "x") as store:
        (point,) = points_in(store, "a")
        point.append(ROWS, 100)
    assert (tmp_path / "run/a/c/0/0").stat().st_size < 300_000
