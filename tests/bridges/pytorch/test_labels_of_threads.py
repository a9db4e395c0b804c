"""Labels of passes that several threads, or tasks of one, begin or work for."""

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.points import labels_of
from tests.support.torch_models import Autoencoder, images


def test_threads_have_labels_of_their_own():
    model = Autoencoder()
    both = threading.Barrier(2)
    with ts.capture(model, "ReLU") as run:

        def work(label):
            with run.labels([label] * 10):
                for _ in range(20):
                    both.wait(600)
                    model(images(10, 4, seed=label))

        threads = [threading.Thread(target=work, args=(label,)) for label in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    point = run["encoder.1_post_states"]
    assert labels_of(point) == {0: 200, 1: 200}
    with ts.capture(model, "ReLU") as alone:
        model(images(10, 4, seed=1))
    one = alone["encoder.1_post_states"].histogram()
    np.testing.assert_array_equal(point.counts_by()[1].counts, 20 * one.counts)


def test_tasks_of_one_thread_that_label_at_the_same_time_are_refused():
    """Their passes would have the labels of the block that began last."""
    model = Autoencoder()
    done = []

    async def task(label):
        with run.labels([label] * 2):
            await asyncio.sleep(0)
            model(images(2, 4))
        done.append(label)

    async def both():
        return await asyncio.gather(task(0), task(1), return_exceptions=True)

    async def each():
        await task(2)
        await task(3)

    with ts.capture(model, "ReLU") as run, run.labels(units=[7, 7]):  # a block around all tasks
        refused = asyncio.run(both())[1]
        asyncio.run(each())
    assert isinstance(refused, RuntimeError)
    assert "await nothing" in str(refused)
    assert done == [0, 2, 3]
    assert run["encoder.1_post_states"].units().tolist() == [7] * 6
    assert labels_of(run["encoder.1_post_states"]) == {0: 2, 2: 2, 3: 2}


def in_tasks(run, call, labels):
    """Three passes of each of some tasks that take turns; a task without a label sets none."""

    async def task(label):
        for _ in range(3):
            if label is not None:
                run.labels([label] * 2)
            await asyncio.sleep(0)
            call(images(3 if label is None else 2, 4, seed=label or 0))

    async def all_of_them():
        await asyncio.gather(*map(task, labels))

    asyncio.run(all_of_them())


@pytest.mark.parametrize("backend", [None, "eager"])
@pytest.mark.parametrize("keep", ["states", "counts"])
def test_tasks_of_one_thread_label_the_passes_that_they_make_next(backend, keep):
    model = Autoencoder()
    called = model if backend is None else torch.compile(model, backend=backend)
    with ts.capture(model, ["ReLU", "decoder"], keep=keep) as run:
        in_tasks(run, called, range(4))
    for label in range(4):
        with ts.capture(model, ["ReLU", "decoder"]) as alone:
            model(images(2, 4, seed=label))
        for name, point in run.items():
            own = point.counts_by()[label]
            assert own == sum([alone[name].histogram()] * 3, ts.StateCounts.empty(own.neurons))


def test_tasks_that_set_no_labels_take_none_of_others():
    with ts.capture(model := Autoencoder(), "ReLU") as run:
        in_tasks(run, model, [None, 1, None])
    with pytest.raises(ts.errors.LabelsMissing, match="18 of 24 instances"):
        run[0].counts_by()


def test_the_labels_of_a_task_hold_beside_the_block_of_another():
    model = Autoencoder()
    with ts.capture(model, "ReLU") as run:

        async def in_block():
            with run.labels([5, 5]):
                await asyncio.sleep(0)
                model(images(2, 4))

        async def next_pass():
            run.labels([6, 6])
            model(images(2, 4))

        async def both():
            await asyncio.gather(in_block(), next_pass())

        asyncio.run(both())
    assert labels_of(run[0]) == {5: 2, 6: 2}


class Between(nn.Module):
    """Between its layers, it calls what it is given."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 4)

    def forward(self, x, between=lambda: None):
        x = self.first(x)
        between()
        return self.last(x)


def in_another_thread(call):
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_labels_of_the_next_pass_are_of_the_thread_that_sets_them(keep):
    """Not of passes that other threads begin first, or while it runs."""
    model = Between()
    with ts.capture(model, ["first", "last"], keep=keep) as run:

        def labelled(seed):
            run.labels([seed, seed])
            model(images(2, 4, seed=seed))

        run.labels([0, 0])
        in_another_thread(lambda: labelled(1))
        model(images(2, 4, seed=0), lambda: in_another_thread(lambda: labelled(2)))
        labelled(3)
    for seed in range(4):
        with ts.capture(model, ["first", "last"]) as alone:
            model(images(2, 4, seed=seed))
        for name, point in alone.items():
            assert run[name].counts_by()[seed] == point.histogram()


def test_labels_of_the_next_pass_leave_those_of_other_threads_alone():
    model = Between()
    with ts.capture(model, ["first", "last"]) as run:
        model(images(2, 4), lambda: in_another_thread(lambda: run.labels([0, 0])))
        in_another_thread(lambda: model(images(2, 4)))
        run.labels([1, 1])
        in_another_thread(lambda: model(images(2, 4)))
    for point in run.values():
        with pytest.raises(ts.errors.LabelsMissing, match="6 of 6 instances"):
            point.counts_by()


class Pooled(nn.Module):
    """Its layers run in threads of a pool; the second after all others that began."""

    def __init__(self):
        super().__init__()
        self.pool = ThreadPoolExecutor(2)
        self.first, self.second = nn.Linear(4, 5), nn.Linear(4, 3)

    def forward(self, x, between=lambda: None):
        one = self.pool.submit(self.first, x).result()
        between()
        return one, self.pool.submit(self.second, x).result()


@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize("in_block", [False, True])
def test_threads_that_work_for_a_pass_have_its_labels(keep, in_block):
    model = Pooled()
    with ts.capture(model, "Linear", keep=keep) as run, model.pool:
        for labels in ([0, 1, 1], [2, 2]):
            block = run.labels(labels, units=labels)
            with block if in_block else contextlib.nullcontext():
                model(images(len(labels), 4))
        run["first"].labels([3])
        with run.labels([4]) if in_block else contextlib.nullcontext(run.labels([4])):
            model(images(1, 4))
        assert not run["first"].pass_log.counter.notes  # of passes that are over
    assert [labels_of(point) for point in run.values()] == [{0: 1, 1: 2, 2: 2, 4: 1}] * 2


def test_threads_that_work_for_one_of_several_passes_have_no_labels():
    model = Pooled()

    def labelled(label, between=lambda: None):
        run.labels([label])
        model(images(1, 4), between)

    with ts.capture(model, "Linear") as run, model.pool:
        labelled(0, lambda: in_another_thread(lambda: labelled(1)))
        model(images(1, 4))  # labels of a pass are not those of the next
    assert [point.instance_count for point in run.values()] == [3, 3]
    for point, missing in zip(run.values(), (2, 3), strict=True):
        with pytest.raises(ts.errors.LabelsMissing, match=f"{missing} of 3 instances"):
            point.counts_by()
