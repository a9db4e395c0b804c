"""Stores after passes that an exception ended: they contain whole passes."""

import threading

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tests.support.points import new_point, rows_of


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run"


@pytest.mark.parametrize("labelled", [True, False])
def test_a_forward_pass_that_ctrl_c_ends_is_forgotten(labelled, path, chunks_of):
    chunks_of(16)
    torch.manual_seed(0)
    broken = [False]

    class Interrupted(torch.nn.Module):
        def forward(self, x):
            if broken[0]:
                raise KeyboardInterrupt
            return x

    model = torch.nn.Sequential(torch.nn.Linear(3, 16), Interrupted(), torch.nn.Linear(16, 8))
    data, classes = torch.randn(100, 3), torch.arange(100)
    with ts.capture(model, "Linear") as whole:
        model(data)

    def go_on(passes):
        with (
            ts.Store(path, "a", commit_seconds=None) as store,
            ts.capture(model, "Linear", storage_path=store) as run,
        ):
            begun = run.instance_count
            for k in range(passes):
                part = slice(begun + 5 * k, begun + 5 * k + 5)
                broken[0] = k == passes - 1
                run.labels(classes[part] if labelled else None)
                model(data[part])

    for passes, committed in ((4, 15), (1, 15), (8, 50)):
        with pytest.raises(KeyboardInterrupt):
            go_on(passes)
        for layer in ts.Store(path).efficiency_layers:
            assert layer.instance_count == committed
            np.testing.assert_array_equal(layer[:], whole[layer.name].raw_states[:committed])
            if labelled:
                assert layer.labels().tolist() == list(range(committed))
        assert ts.Store(path).verify().good


def test_a_first_pass_that_ctrl_c_ends_is_forgotten(path):
    """Some layers have not had a batch yet."""

    def interrupt(*_):
        raise KeyboardInterrupt

    def go_on():
        with ts.Store(path, "a") as store, ts.capture(model, "Linear", storage_path=store):
            store.commit()  # ends no pass: none has begun
            model(torch.ones(5, 3))

    model = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Identity(), torch.nn.Linear(16, 8))
    for committed in (0, 5):
        hook = model[1].register_forward_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            go_on()
        hook.remove()
        # Of a first run that captured nothing, the store lists no layers.
        expected = [committed] * 2 if committed else []
        assert [len(layer) for layer in ts.Store(path).efficiency_layers] == expected
        with ts.Store(path, "a") as store, ts.capture(model, "Linear", storage_path=store) as run:
            assert run.instance_count == committed
            model(torch.ones(5, 3))
        assert [len(layer) for layer in ts.Store(path).efficiency_layers] == [committed + 5] * 2
    assert ts.Store(path).verify().good


@pytest.mark.parametrize("batch", [1, 3, 16, 100])
def test_a_store_whose_block_an_exception_ends_has_whole_passes(batch, path, chunks_of):
    chunks_of(16)
    points = []

    def program():
        with ts.Store(path, "x") as store:
            points.extend(new_point(store, name) for name in "abc")
            for k in range(7):
                for point in points:
                    if (k, point.name) == (6, "c"):
                        raise RuntimeError("the program")
                    point.append(rows_of(k * batch, seed=k), k * batch)

    with pytest.raises(RuntimeError, match="the program"):
        program()
    expected = np.concatenate([rows_of(k * batch, seed=k) for k in range(6)])
    for layer in ts.Store(path).efficiency_layers:
        np.testing.assert_array_equal(layer[:], expected)
    assert {point.state_count for point in points} == {len(expected)}
    assert ts.Store(path).verify().good


def test_whole_passes_are_kept_where_an_exception_comes_between_them(path):
    def program():
        with ts.Store(path, "x") as store:
            points = [new_point(store, name) for name in "ab"]
            for point in points * 3:
                point.append(rows_of(5), 5)
            raise RuntimeError("later")

    with pytest.raises(RuntimeError, match="later"):
        program()
    for layer in ts.Store(path).efficiency_layers:
        assert layer.state_count == 15


@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize("before", [1, 3])
@pytest.mark.parametrize("passes", [0, 1, 3])
def test_a_pass_that_breaks_takes_nothing_from_an_earlier_run(passes, before, keep, path):
    """A store of the user's has several runs, of other layers each."""
    linear, broken = torch.nn.Linear, [False]

    def interrupt(*_):
        if broken[0]:
            raise KeyboardInterrupt

    def run_until_broken(store):
        with ts.capture(second, ["1", "2"], storage_path=store, keep=keep):
            for each in range(passes + 1):
                broken[0] = each == passes
                second(data)

    first = torch.nn.Sequential(linear(3, 16))
    second = torch.nn.Sequential(torch.nn.Identity(), linear(3, 16), linear(16, 8))
    second[1].register_forward_hook(interrupt)
    data = torch.ones(5, 3)
    with ts.Store(path, "x", commit_seconds=None) as store:
        with ts.capture(first, "0", storage_path=store, keep=keep) as run:
            for _ in range(before):
                first(data)
        assert run["0_post_states"].instance_count == 5 * before
        with pytest.raises(KeyboardInterrupt):
            run_until_broken(store)
    found = {layer.name: layer.instance_count for layer in ts.Store(path).efficiency_layers}
    of_second = {f"{layer}_post_states": 5 * passes for layer in (1, 2)} if passes else {}
    assert found == {"0_post_states": 5 * before, **of_second}
    assert ts.Store(path).verify().good


def test_a_pass_that_breaks_after_a_run_of_two_threads(path):
    """That its passes ran beside each other says nothing of the next run's."""
    both_run, broken = threading.Barrier(2), [False]

    def meet(*_):
        both_run.wait(60)

    first = torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Linear(3, 4))
    first[0].register_forward_hook(meet)
    second = torch.nn.Sequential(torch.nn.Tanh(), torch.nn.ReLU(), torch.nn.Linear(3, 8))
    second[1].register_forward_hook(lambda *_: 1 / 0 if broken[0] else None)
    data = torch.ones(5, 3)

    def run_until_broken(store):
        with ts.capture(second, ["0", "2"], storage_path=store):
            second(data)
            broken[0] = True
            second(data)

    with ts.Store(path, "x", commit_seconds=None) as store:
        with ts.capture(first, "1", storage_path=store) as run:
            threads = [threading.Thread(target=first, args=(data,)) for _ in range(2)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
        assert run["1_post_states"].intake.passes_overlap()
        with pytest.raises(ZeroDivisionError):
            run_until_broken(store)
    found = {layer.name: layer.instance_count for layer in ts.Store(path).efficiency_layers}
    assert found == {"1_post_states": 10, "0_post_states": 5, "2_post_states": 5}
