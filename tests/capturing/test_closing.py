"""When a store that a path named is free for the next writer; and ``~`` in paths."""

import contextlib
import gc
import pickle
import shutil
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu.store.files import files_at
from tensorstate_gpu.store.run_writer import RunWriter
from tests.support.points import new_point, rows_of
from tests.support.store_runs import CountingSystem, system_as_it_was  # noqa: F401 a fixture
from tests.support.torch_models import hooks_of

ROWS = rows_of(30)


def network():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))


def run_of(model, path, count=5):
    """The run of a capture into a new store; it stays referenced."""
    with ts.capture(model, "Linear", storage_path=path) as run:
        model(torch.ones(count, 3))
    return run


def test_a_store_is_free_when_its_block_has_ended(tmp_path):
    model = network()
    run = run_of(model, tmp_path / "run")
    gc.disable()
    try:
        with (
            ts.Store(tmp_path / "run", "a") as store,
            ts.capture(model, "Linear", storage_path=store) as more,
        ):
            model(torch.ones(2, 3))
            assert more.instance_count == 7
    finally:
        gc.enable()
    assert run.instance_count == 5
    assert run["0_post_states"].raw_states.shape == (5, 1)
    assert run["0_post_states"].counts([0, 1]).tolist() == [2]
    assert pickle.loads(pickle.dumps(run)).instance_count >= 5
    run.close()
    with pytest.raises(ts.errors.StoreClosed):
        run["0_post_states"].append(np.zeros((1, 1), np.uint8), 1)


@pytest.mark.parametrize("own_store", [False, True])
@pytest.mark.parametrize("keep", ["states", "counts"])
def test_all_layers_are_committed_at_once(keep, own_store, tmp_path, monkeypatch):
    """A commit writes something of each layer: one for each would be layers x layers."""
    commits = []
    submit = RunWriter.submit_commit

    def counted(self, **options):
        commits.append(options)
        submit(self, **options)

    model = torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(20)))
    store = ts.Store(tmp_path / "run", "a") if own_store else tmp_path / "run"
    with ts.capture(model, "Linear", storage_path=store, keep=keep) as run:
        model(torch.ones(2, 3))
        monkeypatch.setattr(RunWriter, "submit_commit", counted)
    assert len(commits) == 1
    found = ts.open_stores([tmp_path / "run"], unfinished="accept")
    assert [found[name].state_count for name in run] == [2] * 20
    if own_store:
        store.close()


def test_an_exception_frees_it_too(tmp_path):
    model = network()
    with (
        contextlib.suppress(KeyboardInterrupt),
        ts.capture(model, "Linear", storage_path=tmp_path / "run") as run,
    ):
        model(torch.ones(5, 3))
        raise KeyboardInterrupt
    with ts.Store(tmp_path / "run", "a") as store:
        assert [layer.instance_count for layer in store.efficiency_layers] == [5, 5]
    assert run.instance_count == 5


def test_a_store_that_the_user_opened_stays_open(tmp_path):
    model = network()
    with ts.Store(tmp_path / "run", "x", commit_seconds=None) as store:
        run = run_of(model, store)
        run.close()
        assert ts.Store(tmp_path / "run")["0_post_states"].instance_count == 5
        with pytest.raises(ts.errors.StoreInUse):
            ts.Store(tmp_path / "run", "a")
        store.commit()


def test_run_close_frees_the_store_of_an_efficiency_model(tmp_path):
    model = ts.build_efficiency_model(network(), "Linear", storage_path=str(tmp_path / "run"))
    model(torch.ones(5, 3))
    run = ts.Run(model.efficiency_layers)
    for _ in range(2):
        run.close()
        ts.Store(tmp_path / "run", "a").close()
        ours, stored = run.report(), ts.Store(tmp_path / "run").report()
        assert ours.network_efficiency == stored.network_efficiency
        assert [layer.states for layer in ours.layers] == [layer.states for layer in stored.layers]
    with pytest.raises(ts.errors.StoreClosed, match="is closed; open it with mode='a' to go on"):
        model(torch.ones(5, 3))


def test_stores_are_free_if_what_a_framework_still_computed_has_failed(tmp_path):
    points = [new_point(tmp_path / name, name) for name in ("a", "b")]
    for point in points:
        point.append(ROWS, 30)

    errors = [RuntimeError("a callback has failed")]

    def wait():
        if errors:
            raise errors.pop()  # once, as a framework does

    points[0].intake.add_barrier(wait)
    with pytest.raises(RuntimeError, match="a callback has failed"):
        ts.Run(points).close()
    for name in ("a", "b"):
        assert len(ts.Store(tmp_path / name, "a")[name]) == 30


def test_removing_the_points_of_a_model_frees_their_store(tmp_path):
    model = ts.build_efficiency_model(network(), "Linear", storage_path=tmp_path / "run")
    model(torch.ones(5, 3))
    points = model.efficiency_layers
    ts.remove_state_layers(model)
    with ts.Store(tmp_path / "run", "a") as store:
        assert len(store["0_post_states"]) == 5
    assert points[0].state_count == 5


def test_a_store_waits_for_its_last_point(tmp_path):
    first, second = (new_point(tmp_path / "run", name) for name in ("a", "b"))
    first.append(ROWS, 30)
    first.close()
    second.append(ROWS, 30)
    with pytest.raises(ts.errors.StoreInUse):
        ts.Store(tmp_path / "run", "a")
    second.close()
    assert [len(layer) for layer in ts.Store(tmp_path / "run", "a").efficiency_layers] == [30, 30]


def test_closing_points_in_memory_changes_nothing():
    for keep in ("states", "counts"):
        run = ts.Run([new_point(keep=keep)])
        run["layer"].append(ROWS, 30)
        run.close()
        run["layer"].append(ROWS, 30)
        assert run["layer"].state_count == 60


@pytest.mark.parametrize("mode", ["x", "a"])
def test_a_store_can_be_made_where_one_was_deleted(mode, tmp_path):
    """As in a notebook: the cell that has failed is run again."""
    path, moved = tmp_path / "run", threading.Event()

    def wait_with_rows(number, operation, file):
        if "/c/" in str(file):
            assert moved.wait(600)

    def cell(after_rows=lambda: None):
        with ts.Store(path, mode, chunk_bytes=1 << 10) as store:
            point = new_point(store)
            point.append(rows_of(2000), 2000)
            after_rows()
            point.append(rows_of(2000), 2000)

    def move():
        path.rename(tmp_path / "elsewhere")
        moved.set()

    CountingSystem(wait_with_rows).install(tmp_path)
    with pytest.raises((ts.errors.StoreClosed, FileNotFoundError)):
        cell(move)
    gc.collect()
    with pytest.warns(UserWarning, match=rf"could not be written: {path} was deleted"):
        cell()
    assert ts.Store(path)["layer"].state_count == 4000


def test_a_path_can_be_used_again_when_its_store_was_deleted(tmp_path):
    run = run_of(network(), tmp_path / "run")
    with pytest.raises(ValueError, match="exists and is not empty"):
        run_of(network(), tmp_path / "run")
    assert run["0_post_states"].state_count == 5
    shutil.rmtree(tmp_path / "run")
    assert run_of(network(), tmp_path / "run", 3).instance_count == 3


# ---- the home folder -----------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("kind", [str, Path])
def test_a_tilde_is_the_home_folder(kind, home):
    run = run_of(network(), kind("~/run.zarr"))
    memory = ts.Run([new_point()])
    memory["layer"].append(ROWS, 30)
    memory.save(kind("~/saved.zarr"))
    store = ts.Store(kind("~/run.zarr"))
    assert str(store) == str(home / "run.zarr")
    pytest.importorskip("pyarrow")
    memory["layer"].to_parquet(kind("~/rows.parquet"))
    memory["layer"].histogram().to_parquet(kind("~/counts.parquet"))
    store.to_zip(kind("~/run.zip"))
    names = {"run.zarr", "saved.zarr", "rows.parquet", "counts.parquet", "run.zip"}
    assert {file.name for file in home.iterdir()} == names
    assert not Path("~").exists()
    assert run.instance_count == 5


def test_urls_have_no_home_folder(home):
    assert str(files_at("memory://~/x")) == "memory://~/x"
    assert str(files_at((home.parent / "~").as_uri())) == str(home.parent / "~")


# ---- options of points that exist ----------------------------------------------------------------


def test_other_options_for_a_point_that_exists_are_named():
    model = ts.build_efficiency_model(network(), "0", threshold=0.5)
    with pytest.warns(UserWarning, match="^0_post_states: these capture points exist, and keep"):
        ts.build_efficiency_model(model, "Linear", keep="counts")
    assert [point.keep for point in model.efficiency_layers] == ["states", "counts"]


def test_the_same_options_do_not_warn(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = ts.build_efficiency_model(network(), "0", threshold=0.5)
        ts.build_efficiency_model(model, "Linear", threshold=0.5)
        ts.build_efficiency_model(model, "ReLU")
        ts.build_efficiency_model(model, ["Linear", "ReLU"])
    with pytest.warns(UserWarning, match="1_post_states, 0_post_states, 2_post_states: these"):
        ts.build_efficiency_model(model, "*", threshold=0.5, storage_path=tmp_path / "run")


@pytest.mark.parametrize("step", ["pass_log", "hook", "passes"])
def test_all_hooks_leave_though_one_fails(step, tmp_path, monkeypatch):
    """As where memory runs out: one that stays would add batches to a store that is closed."""
    model = network()
    ts.build_efficiency_model(model, "Linear", storage_path=tmp_path / "run")
    model(torch.ones(5, 3))
    first = model.efficiency_layers[0]
    owner, name = {
        "pass_log": (first.pass_log, "end"),
        "hook": (first, "remove"),
        "passes": (first.followed_passes, "remove_user"),
    }[step]
    leave = getattr(owner, name)

    def fails(*given):
        leave(*given)
        raise MemoryError

    monkeypatch.setattr(owner, name, fails)
    with pytest.raises(MemoryError):
        ts.remove_state_layers(model)
    assert hooks_of(model) == []
    assert [layer.state_count for layer in ts.Store(tmp_path / "run").values()] == [5, 5]
    assert run_of(model, tmp_path / "next").instance_count == 5
