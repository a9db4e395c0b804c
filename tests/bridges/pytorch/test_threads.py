"""Models that run in several threads."""

import gc
import itertools
import sys
import threading
import weakref
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu._capturing.pass_times import PassTimes
from tests.support.samples import thinned
from tests.support.torch_models import expected_rows, hooks_of, images, perceptron


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_threads_share_a_model(keep):
    model, failures = perceptron().eval(), []
    rows = [expected_rows(model[0](images(9, 6, seed=seed))) for seed in range(8)]
    expected = ts.count_states(np.concatenate(rows * 25), neurons=20)

    def work(seed: int) -> None:
        try:
            for _ in range(25):
                model(images(9, 6, seed=seed))
        except BaseException as error:
            failures.append(error)

    with ts.capture(model, "Linear", keep=keep) as run:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert [point.state_count for point in run.efficiency_layers] == [8 * 25 * 9] * 2
    assert run["0_post_states"].histogram() == expected
    assert hooks_of(model) == []


class Meeting(nn.Module):
    """Waits in the middle of a pass for others, as many as a barrier wants, and may fail there."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act, self.barrier = nn.Linear(6, 4), nn.ReLU(), threading.Barrier(1)

    @torch.compiler.disable
    def meet(self, fails: bool) -> None:
        self.barrier.wait(600)
        if fails:
            raise ArithmeticError("this pass")

    def forward(self, x, fails=False):
        x = self.layer(x)
        self.meet(fails)
        return self.act(x)


def in_threads(*calls):
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def repeatedly(call, times, x, **options):
    def passes():
        for _ in range(times):
            with suppress(ArithmeticError), torch.no_grad():  # a setting of each thread
                call(x, **options)

    return passes


def ended_by_itself(call):
    def until_exit():
        with suppress(SystemExit):  # of which pytest would tell
            call()

    return until_exit


def passes_of(run):
    return [point.passes for point in run.values()]


KEPT = [*itertools.product(["states", "counts"], [None, "eager", "aot_eager"])]


@pytest.mark.parametrize(
    ("keep", "backend"), thinned(KEPT, [("states", None), ("counts", "aot_eager")])
)
def test_passes_that_overlap_are_counted(keep, backend):
    torch.compiler.reset()
    model = Meeting()
    call = torch.compile(model, backend=backend) if backend else model
    with torch.no_grad(), ts.capture(model, "*", keep=keep) as run:
        call(images(5, 6))
        model.barrier = threading.Barrier(3)
        in_threads(*(repeatedly(call, 20, images(size, 6)) for size in (5, 7, 8)))
        assert passes_of(run) == [(61, 61)] * 2
        model.barrier = threading.Barrier(1)
        in_threads(repeatedly(call, 2, images(5, 6)))
    assert passes_of(run) == [(63, 63)] * 2
    assert [point.failed_passes for point in run.values()] == [0] * 2
    assert run.instance_count == 5 + 20 * (5 + 7 + 8) + 10
    assert "passes" not in str(run.report())


@pytest.mark.parametrize("ended", [True, False])
def test_a_pass_that_fails_beside_complete_ones(ended, tmp_path):
    """Neither is it taken for complete, nor are rows of the others taken back with it."""
    model = Meeting()
    model.barrier = threading.Barrier(3)
    calls = [repeatedly(model, 4, images(5, 6)) for _ in range(2)]
    calls.append(repeatedly(model, 4, images(7, 6), fails=True))
    for storage in ({}, {"storage_path": tmp_path / "run.zarr"}):
        model.barrier.reset()
        with suppress(ArithmeticError), ts.capture(model, "*", **storage) as run:
            in_threads(*calls)
            if not ended:
                raise ArithmeticError("after passes, of which some have failed")
        layer, act = run.values()
        assert (layer.passes, act.passes) == ((12, 12), (8, 12))
        assert [point.failed_passes for point in (layer, act)] == [4, 4]
        assert (layer.instance_count, act.instance_count) == (2 * 20 + 28, 2 * 20)
        assert "8 of 12 passes, 4 failed" in " ".join(str(run.report()).split())


def test_a_pass_that_fails_alone_is_taken_back_after_others_that_overlapped():
    model = Meeting()
    with suppress(ArithmeticError), ts.capture(model, "*") as run:
        model.barrier = threading.Barrier(2)
        in_threads(repeatedly(model, 3, images(5, 6)), repeatedly(model, 3, images(5, 6)))
        model.barrier = threading.Barrier(1)
        in_threads(repeatedly(model, 1, images(5, 6), fails=True))  # in a thread that is no more
        model(images(5, 6), fails=True)
    layer, act = run.values()
    assert (layer.instance_count, act.instance_count) == (35, 30)
    assert (layer.passes, act.passes) == ((7, 7), (6, 7))
    assert act.failed_passes == 1


def test_the_pass_of_a_thread_that_ends_in_its_middle_has_failed():
    model = Meeting()
    with ts.capture(model, "*") as run:
        model(images(5, 6))
        model.meet = lambda fails: sys.exit()
        in_threads(ended_by_itself(lambda: model(images(5, 6))))
        del model.meet
        model(images(5, 6))
    assert passes_of(run) == [(3, 3), (2, 3)]
    assert [point.failed_passes for point in run.values()] == [1, 1]


def test_what_is_reset_while_others_run_counts_the_passes_that_begin_then():
    model, begun, may_end = Meeting(), threading.Event(), threading.Event()

    def wait(fails: bool) -> None:
        begun.set()
        assert may_end.wait(600)

    with ts.capture(model, "*") as run:
        model.meet = wait
        other = threading.Thread(target=lambda: model(images(5, 6)))
        other.start()
        assert begun.wait(600)
        del model.meet
        run.reset()
        model(images(7, 6))
        may_end.set()
        other.join()
    assert passes_of(run) == [(1, 1)] * 2
    assert [point.failed_passes for point in run.values()] == [0] * 2


class Recursive(nn.Module):
    """Calls itself, the first time in vain."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x, depth=2):
        if depth == 0:
            raise ArithmeticError("too deep")
        with suppress(ArithmeticError):
            x = self(x, depth - 1)
        return self.layer(x)


def test_a_model_that_calls_itself_makes_one_pass():
    model = Recursive()
    with ts.capture(model, "layer", merge_calls=True) as run:
        for _ in range(3):
            model(images(5, 6))
        assert passes_of(run) == [(3, 3)]
        assert run[0].failed_passes == 0
        with pytest.raises(ArithmeticError):
            model(images(5, 6), depth=0)
        model(images(5, 6))
    assert passes_of(run) == [(4, 5)]
    assert run[0].failed_passes == 1
    assert run[0].state_count == 4 * 2 * 5


@pytest.mark.parametrize("backend", [None, "eager"])
def test_calls_of_a_layer_are_told_apart_where_passes_overlap(backend):
    class Twice(Meeting):
        def forward(self, x):
            x = self.layer(x)
            self.meet(False)
            return self.layer(x + 1)

    torch.compiler.reset()
    model = Twice()
    model.layer = nn.Linear(6, 6)
    call = torch.compile(model, backend=backend) if backend else model
    with torch.no_grad(), ts.capture(model, "layer") as run:
        call(images(5, 6))
        model.barrier = threading.Barrier(2)
        in_threads(*[repeatedly(call, 20, images(5, 6))] * 2)
    assert list(run) == ["layer_post_states", "layer:2_post_states"]
    assert passes_of(run) == [(41, 41)] * 2
    assert [point.state_count for point in run.values()] == [41 * 5] * 2


def test_a_filter_decides_once_for_each_of_the_passes_that_overlap():
    model, asked = Meeting(), []
    with ts.capture(model, "*", when=lambda model: asked.append(1) or True):
        model.barrier = threading.Barrier(2)
        in_threads(*[repeatedly(model, 20, images(5, 6))] * 2)
    assert len(asked) == 40


def test_data_parallel_without_a_gpu():
    parallel = nn.DataParallel(perceptron())
    with ts.capture(parallel, "module.0") as run:
        assert parallel(images(10, 6)).shape == (10, 4)
    assert run["module.0_post_states"].state_count == 10
    assert passes_of(run) == [(1, 1)]
    assert hooks_of(parallel) == []


def test_data_parallel_replicas_feed_the_points_of_the_original():
    layer = nn.Linear(6, 20)
    with ts.capture(layer, "Linear") as run:
        threads = []
        for rows in (7, 8, 9):
            # What nn.DataParallel makes for each GPU: a shallow copy with the very same hooks.
            replica = layer._replicate_for_data_parallel()
            replica.weight, replica.bias = layer.weight, layer.bias
            threads.append(threading.Thread(target=replica, args=(images(rows, 6),)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert run["Linear_post_states"].state_count == 24
    rows = np.concatenate([expected_rows(layer(images(rows, 6))) for rows in (7, 8, 9)])
    assert run["Linear_post_states"].histogram() == ts.count_states(rows, neurons=20)


def test_a_pass_that_is_over_has_failed_when_a_later_one_begins():
    times, owners = PassTimes(), [threading.Event(), threading.Event()]
    broken = times.begin(owners[0])
    times.note_over(broken)
    assert times.unfinished() == [broken]
    complete = times.begin(owners[1])
    assert not times.overlaps
    times.end(complete)
    assert (times.unfinished(), times.failed(), times.begun) == ([], 1, 2)


def test_nothing_keeps_the_tensors_of_an_interrupted_pass():
    class Interrupting(nn.Module):
        def forward(self, x):
            raise KeyboardInterrupt

    model = nn.Sequential(nn.Linear(4, 3), Interrupting())
    x = torch.ones(5, 4)
    kept = weakref.ref(x)
    with pytest.raises(KeyboardInterrupt), ts.capture(model, ["0"]) as run:
        model(x)
    del x
    gc.collect()
    assert kept() is None
    assert list(run) == ["0_post_states"]
