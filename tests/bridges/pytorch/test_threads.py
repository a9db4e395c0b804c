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
