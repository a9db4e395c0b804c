"""Who may go on with a store: one writer at a time, with the capture that began it."""

import math
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import zarr
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu._capturing.options import CaptureOptions
from tests.support.closed_store import ROWS, content, layers_in
from tests.support.ids import plain
from tests.support.points import new_point

# ---- one writer ----------------------------------------------------------------------------------


def test_two_writers_in_one_process(stored):
    with ts.Store(stored, "a") as store:
        point = new_point(store, threshold=0.5)
        for _ in range(2):  # the refused one leaves the lock alone
            with pytest.raises(ValueError, match=r"run is being written already.*has one writer"):
                ts.Store(stored, "a")
        with pytest.raises(ValueError, match="run exists and is not empty"):
            ts.Store(stored, "x")
        with pytest.raises(ValueError, match="run exists and is not empty"):
            ts.CapturePoint("other", stored)
        point.append(ROWS, 35, np.arange(35))
    assert ts.Store(stored)["layer"].state_count == 70
    with ts.Store(stored, "a") as store:
        assert new_point(store, threshold=0.5).state_count == 70


WRITER = """
import sys, time
import numpy as np
import tensorstate_gpu as ts
store = ts.Store(sys.argv[1], "a", commit_seconds=None)
point = ts.CapturePoint("layer", store, threshold=0.5)
point.declare(16, 1)
point.append(np.full((5, 2), 7, np.uint8), 5, range(5))
store.commit()
point.append(np.full((5, 2), 9, np.uint8), 5, range(5))
print("ready", flush=True)
time.sleep(3600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="one writer is the user's duty there")
def test_another_process_writes_and_is_killed(stored):
    command = [sys.executable, "-c", WRITER, str(stored)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout.readline() == "ready\n"
            before = content(stored)
            with pytest.raises(ValueError, match=r"run is being written already, by another proc"):
                ts.Store(stored, "a")
            with pytest.raises(ValueError, match="run exists and is not empty"):
                ts.CapturePoint("other", stored)
            assert ts.Store(stored)["layer"].state_count == 40
            assert content(stored) == before
        finally:
            writer.send_signal(signal.SIGKILL)
    with ts.Store(stored, "a") as store:  # the lock is free
        point = new_point(store, threshold=0.5)
        assert point.state_count == 40
        point.append(ROWS[:1], 1, [0])
    expected = np.concatenate([ROWS, np.full((5, 2), 7, np.uint8), ROWS[:1]])
    np.testing.assert_array_equal(ts.Store(stored)["layer"][:], expected)


# ---- resuming with something else ----------------------------------------------------------------


def one_more(number):
    return number > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neurons": 17}, "a batch has 17 neurons, earlier ones 16"),
        ({"neurons": 24}, "a batch has 24 neurons, earlier ones 16"),
        ({"axis": 2}, "neurons along axis 2, those in .*run along 1"),
        ({"axis": None}, "neurons along axis None, those in .*run along 1"),
        ({"threshold": 0}, "captured with .*'threshold': 0.5.* not with threshold = 0"),
        ({"threshold": math.inf}, "captured with .*'threshold': 0.5.* not with threshold = inf"),
        ({"threshold": [0.5] * 16}, r"captured with .*'threshold': 0.5.* threshold = \[0.5, 0.5"),
        ({"threshold": 0, "firing": one_more}, "captured with .*not with firing = one_more"),
        ({"name": "other"}, r"run holds the layers \['layer'\], and not 'other'"),
        ({"name": "Layer"}, r"run holds the layers \['layer'\], and not 'Layer'"),
    ],
    ids=plain,
)
def test_another_capture_does_not_go_on(changes, message, stored):
    before = layers_in(stored)
    with ts.Store(stored, "a") as store, pytest.raises(ValueError, match=message):
        new_point(store, **{"threshold": 0.5, **changes})
    assert layers_in(stored) == before
    with ts.Store(stored, "a") as store:  # the right one does
        new_point(store, threshold=np.float32(0.5)).append(ROWS, 35, np.arange(35))
    assert ts.Store(stored)["layer"].state_count == 70


@pytest.mark.parametrize(
    "threshold",
    [math.inf, -math.inf, [math.inf, 0.0] * 8, np.full(16, 0.5, np.float16), (1,) * 16, 10**400],
    ids=lambda threshold: str(threshold)[:20],
)
def test_every_threshold_goes_on(threshold, tmp_path):
    for k in (1, 2):
        with ts.Store(tmp_path, "a") as store:
            point = new_point(store, threshold=threshold)
            point.append(ROWS, 35)
            assert point.state_count == 35 * k
    assert zarr.open_group(tmp_path, mode="r")["layer"].attrs["neurons"] == 16
    refused = pytest.raises(ValueError, match=r"layer was captured with .*not with threshold = ")
    with ts.Store(tmp_path, "a") as store, refused:
        new_point(store, threshold=[0.25] * 16)


def new_model(*sizes):
    layers = [nn.Linear(*pair) for pair in zip((3, *sizes), sizes, strict=False)]
    return nn.Sequential(*layers)


INPUT = torch.ones(10, 3)


def captured(model, store, **options):
    with ts.capture(model, "Linear", storage_path=store, **options):
        model(INPUT)


def attached(model, store, **options):
    ts.build_efficiency_model(model, "Linear", storage_path=store, **options)


@pytest.fixture
def of_model(tmp_path):
    """A closed store of a model with two layers."""
    with ts.Store(tmp_path / "run", "x") as store:
        captured(new_model(4, 5), store)
    return tmp_path / "run"


def counts_of(path):
    store = ts.Store(path)
    return {name: store[name].state_count for name in store}


@pytest.mark.parametrize("attach", [attached, captured])
@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ((4, 5, 2), {}, r"run holds the layers \['0_post.*1_post_states'\], and not '2_post_state"),
        ((4,), {}, r"run holds \['1_post_states'\] too, which are not captured now"),
        ((4, 5), {"threshold": 1.0}, "0_post_states was captured with .*not with threshold = 1.0"),
        ((4, 5), {"method": "both"}, "holds the layers .*, and not '0_pre_states'"),
        ((4, 5), {"keep": "counts"}, 'was captured with keep="states", not keep="counts"'),
    ],
    ids=str,
)
def test_another_model_does_not_go_on(sizes, options, message, attach, of_model):
    before = layers_in(of_model)
    model = new_model(*sizes)
    with ts.Store(of_model, "a") as store, pytest.raises(ValueError, match=message):
        attach(model, store, **options)
    assert layers_in(of_model) == before
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.modules())
    assert not hasattr(model, "efficiency_layers")
    with ts.Store(of_model, "a") as store:
        captured(new_model(4, 5), store)
    assert counts_of(of_model) == {"0_post_states": 20, "1_post_states": 20}


def test_wider_layers_do_not_go_on(of_model):
    with (
        ts.Store(of_model, "a") as store,
        pytest.raises(ValueError, match="0_post_states: a batch has 9 neurons, earlier ones 4"),
    ):
        captured(new_model(9, 5), store)
    assert counts_of(of_model) == {"0_post_states": 10, "1_post_states": 10}


# ---- stores that take nothing ------------------------------------------------------------------


def test_a_store_opened_to_be_read(of_model):
    before = content(of_model)
    store = ts.Store(of_model)
    for write in (
        lambda: ts.CapturePoint("layer", store),
        lambda: captured(new_model(4, 5), store),
        store.commit,
    ):
        with pytest.raises(ValueError, match=r"was opened to be read; mode='a' or 'x' writes"):
            write()
    store.close()  # needs none, and does no harm
    assert counts_of(of_model) == {"0_post_states": 10, "1_post_states": 10}
    assert content(of_model) == before


def test_a_closed_store_takes_no_more(tmp_path):
    store = ts.Store(tmp_path / "run", "x")
    point = new_point(store)
    point.append(ROWS, 35)
    store.close()
    before = content(tmp_path)
    with pytest.raises(RuntimeError, match="run is closed; open it with mode='a' to go on"):
        point.append(ROWS, 35)
    with pytest.raises(RuntimeError, match="run is closed; open it with mode='a' to go on"):
        point.intake.record(ROWS, 16, 1, 35)
    assert point.state_count == 35
    np.testing.assert_array_equal(point.raw_states, ROWS)  # still there to be read
    store.close()
    with pytest.raises(RuntimeError, match="run is closed; open it with mode='a' to go on"):
        captured(new_model(4), store)
    assert content(tmp_path) == before


# ---- stores of several runs --------------------------------------------------------------------


@pytest.fixture
def of_two_runs(tmp_path):
    """A closed store of two models that ran beside each other."""
    store, one, other = ts.Store(tmp_path / "run", "x"), new_model(4, 5), nn.Linear(3, 6)
    with store, ts.capture(one, "Linear", storage_path=store) as first:
        one(INPUT)
        with ts.capture(other, [other], storage_path=store) as second:
            other(INPUT)
    return tmp_path / "run", [*first], [*second]


def test_each_of_several_runs_goes_on(of_two_runs):
    path, first, second = of_two_runs
    for _ in range(2):  # also after a session in which only one of them has gone on
        with ts.Store(path, "a") as store:
            captured(new_model(4, 5), store)
    layer = nn.Linear(3, 6)
    with ts.Store(path, "a") as store:
        with ts.capture(layer, [layer], storage_path=store):
            layer(INPUT)
        captured(new_model(4, 5), store)
    assert counts_of(path) == dict.fromkeys(first, 40) | dict.fromkeys(second, 20)
    assert ts.Store(path).verify().good


def test_one_of_several_runs_does_not_go_on_without_a_layer(of_two_runs):
    path, _, _ = of_two_runs
    refused = pytest.raises(ValueError, match=r"\['1_post_states'\] too, which are not captured")
    with ts.Store(path, "a") as store, refused:
        captured(new_model(4), store)


def test_a_run_whose_model_has_the_number_of_an_earlier_one_is_another(tmp_path):
    """As the id of a model may be that of one that is no more."""
    with ts.Store(tmp_path / "run", "x") as store:
        for name in "ab":
            point = ts.CapturePoint(name, options=CaptureOptions(disk_path=store, run=1))
            point.declare(16)
            point.append(ROWS, len(ROWS))
            ts.Run([point]).close()
    assert ts.Store(tmp_path / "run").record.captures == (("a",), ("b",))
