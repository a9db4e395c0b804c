"""Models that run in several threads."""

import threading

import numpy as np
import pytest
from torch import nn

import tensorstate_gpu as ts
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
    """In which as many threads wait for each other as a barrier wants."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act, self.barrier = nn.Linear(6, 4), nn.ReLU(), threading.Barrier(1)

    def forward(self, x):
        x = self.layer(x)
        self.barrier.wait(10)
        return self.act(x)


def in_threads(*calls):
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_passes_that_overlap_are_not_told_apart():
    model = Meeting()
    with ts.capture(model, "*") as run:
        in_threads(lambda: model(images(5, 6)))
        model(images(5, 6))
        assert [point.passes for point in run.values()] == [(2, 2)] * 2  # one after the other
        model.barrier = threading.Barrier(2)
        in_threads(lambda: model(images(5, 6)), lambda: model(images(7, 6)))
    assert [point.passes for point in run.values()] == [None] * 2
    assert [point.failed_passes for point in run.values()] == [0] * 2
    assert run.instance_count == 22
    assert "passes" not in str(run.report())


def test_passes_are_told_apart_again_after_a_reset():
    model = Meeting()
    with ts.capture(model, "*") as run:
        model.barrier = threading.Barrier(2)
        in_threads(lambda: model(images(5, 6)), lambda: model(images(7, 6)))
        run.reset()
        model.barrier = threading.Barrier(1)
        model(images(5, 6))
    assert [point.passes for point in run.values()] == [(1, 1)] * 2


def test_a_store_does_not_keep_the_passes_of_an_earlier_run_alone(tmp_path):
    model = Meeting()
    for threads in (1, 2):
        model.barrier = threading.Barrier(threads)
        with (
            ts.Store(tmp_path / "run.zarr", mode="a") as store,
            ts.capture(model, "*", storage_path=store),
        ):
            in_threads(*[lambda: model(images(5, 6))] * threads)
        layers = ts.Store(tmp_path / "run.zarr")
        assert {layer.passes for layer in layers.values()} == {(1, 1) if threads == 1 else None}
    assert {layer.instance_count for layer in layers.values()} == {15}


def test_data_parallel_without_a_gpu():
    parallel = nn.DataParallel(perceptron())
    with ts.capture(parallel, "module.0") as run:
        assert parallel(images(10, 6)).shape == (10, 4)
    assert run["module.0_post_states"].state_count == 10
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
