"""Monitors with stages: sampling decides what graphs append, and no graph is made anew."""

import threading

import pytest
import torch

import tensorstate_gpu as ts
from tests.support.staged_models import (
    Graph,
    batch,
    expected,
    network,
    staged,
)

pytestmark = pytest.mark.usefixtures("nothing_compiled_before")
LAYERS = ["Conv2d", "Linear"]


def monitor_of(model, **options):
    return ts.StateMonitor(model, LAYERS, **{"stage_rows": 1000, "states_per_step": None} | options)


def recorded(model, monitor):
    """A graph of the model that is replayed without hooks, made in a pause."""
    graph = Graph(model)
    with monitor.paused():
        graph.record(batch(0))  # creates the stages
        graph.record(batch(0))
    return graph


def found(monitor, phase="train"):
    return {f"{n}_post_states": monitor.counts(n, phase) for n in ("0", "3")}


@torch.no_grad()
def test_replays_are_sampled():
    model = network()
    monitor = monitor_of(model, every_n_steps=5)
    graph = recorded(model, monitor)
    for step in range(20):
        graph.replay(batch(step))
        monitor.step()
    assert found(monitor) == expected(model, range(0, 20, 5))
    assert monitor.scalars()["train/efficiency"] > 0
    monitor.remove()
    graph.replay(batch(20))
    assert monitor.counts("3").total == 20


@torch.no_grad()
def test_phases_of_replays_are_apart():
    """What waits when a block begins or ends is of the phase before."""
    model = network()
    monitor = monitor_of(model, every_n_steps=4)
    graph = recorded(model, monitor)
    for step in range(3):
        graph.replay(batch(step))
        with monitor.during("test"):
            graph.replay(batch(10 + step))
        with monitor.paused():
            graph.replay(batch(20))
        monitor.step()
    assert found(monitor) == expected(model, range(1))
    assert found(monitor, "test") == expected(model, range(10, 13))


@torch.no_grad()
def test_passes_outside_of_graphs_tell_their_phase():
    model = network()
    monitor = monitor_of(model, every_n_steps=2, window=2)
    for step in range(3):
        model.train()
        model(batch(step))
        model.eval()
        for seed in (5, 6, 7):
            model(batch(seed))
        model.train()
        monitor.step()
    assert found(monitor) == expected(model, range(0, 3, 2))
    assert found(monitor, "eval") == expected(model, range(6, 8))  # each pass is a step


@torch.no_grad()
def test_a_compiled_model_has_two_graphs_whatever_is_sampled():
    model, made = network(), []
    monitor = monitor_of(model, every_n_steps=3)

    def backend(graph, inputs):
        made.append(graph)
        return graph.forward

    compiled = torch.compile(model, backend=backend)
    for step in range(8):
        compiled(batch(step))
        monitor.step()
    assert len(made) == 2  # of the first pass, which creates the stages, and of all others
    assert found(monitor) == expected(model, range(0, 8, 3))


@torch.no_grad()
def test_states_of_a_step_are_sampled_when_it_ends():
    model = network()
    monitor = monitor_of(model, every_n_steps=1, states_per_step=7)
    graph = recorded(model, monitor)
    for seed in range(3):
        graph.replay(batch(seed))  # micro-batches of 5 inputs, of 16 states each in the first layer
    monitor.step()
    assert (monitor.counts("3").total, monitor.passed_over("3")) == (7, 8)
    assert (monitor.counts("0").total, monitor.passed_over("0")) == (7, 233)
    graph.replay(batch(3))
    assert (monitor.counts("3").total, monitor.passed_over("3")) == (12, 8)


@torch.no_grad()
def test_lost_rows_are_told_until_a_reset():
    model = network()
    monitor = monitor_of(model, every_n_steps=1, stage_rows=100)
    for seed in range(2):
        model(batch(seed))  # 80 rows each
    monitor.step()
    for read in (monitor.scalars, monitor.state_dict, lambda: monitor.counts("3")):
        with pytest.raises(ts.errors.RowsLost, match="0_post_states: 80 rows"):
            read()
    monitor.reset()
    model(batch(2))
    assert found(monitor) == expected(model, range(2, 3))


@torch.no_grad()
def test_a_reset_of_a_phase_keeps_what_others_have_lost():
    model = network()
    monitor = monitor_of(model, every_n_steps=1, stage_rows=100)
    for phase in ("train", "eval"):
        with monitor.during(phase):
            model(torch.cat([batch(0), batch(1)]))  # 160 rows, which do not fit
    for phase, lost in (("test", 320), ("eval", 160)):
        monitor.reset(phase)
        with pytest.raises(ts.errors.RowsLost, match=f"0_post_states: {lost} rows"):
            monitor.scalars()
    monitor.reset("train")
    assert monitor.scalars() == {}


@torch.no_grad()
def test_a_checkpoint_has_what_waits_in_stages():
    model = network()
    monitor = monitor_of(model, every_n_steps=1)
    model(batch(0))
    state = monitor.state_dict()
    model(batch(1))
    monitor.load_state_dict(state)
    assert found(monitor) == expected(model, range(1))


# ---- passes that fail ----------------------------------------------------------------------------


def break_a_pass(model, seed):
    """Run a pass that fails in its last layer."""
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(batch(seed)[..., :5])


def in_steps_of_which_one_fails(model, monitor):
    model(batch(0))
    monitor.step()
    break_a_pass(model, 1)
    model(batch(1))
    monitor.step()
    model(batch(2))
    return found(monitor)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:a forward pass of a captured step has failed")
def test_a_pass_that_fails_loses_nothing():
    """All is counted that would be without stages: also what the pass has passed before."""
    model = network()
    counted = in_steps_of_which_one_fails(model, monitor_of(model, every_n_steps=1))
    plain = monitor_of(model, every_n_steps=1, stage_rows=None)
    assert counted == in_steps_of_which_one_fails(model, plain)
    conv, dense = counted.values()
    assert (conv.total, dense.total) == (3 * 80 + 60, 3 * 5)


@torch.no_grad()
def test_a_pass_that_fails_in_another_thread_loses_nothing():
    model = network()

    def fail_beside(*_):
        handle.remove()
        other = threading.Thread(target=break_a_pass, args=(model, 1))
        other.start()
        other.join()

    with staged(model, keep="counts") as run:
        model(batch(0))
        handle = model[1].register_forward_hook(fail_beside)
        model(batch(2))
        model(batch(3))
    exact = expected(model, [0, 2, 3])
    assert run["3"].histogram() == exact["3_post_states"]
    assert run["0"].histogram().total == exact["0_post_states"].total + 60


def ended_by_a_pass(model, before, **options):
    """The counts of a capture that a pass has ended. ``before``: makes the passes before it."""
    runs = []

    def capture():
        with staged(model, keep="counts", **options) as run:
            runs.append(run)
            before(run)
            model(batch(2)[..., :5])

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        capture()
    return {name: point.histogram() for name, point in runs[0].items()}


@torch.no_grad()
@pytest.mark.parametrize("drained", [False, True])
def test_a_pass_that_ends_a_block_is_taken_back(drained):
    model = network()

    def before(run):
        model(batch(0))
        if drained:
            run.drain()
        model(batch(1))

    assert ended_by_a_pass(model, before) == expected(model, range(2))


def empty(model, run):
    model(batch(0)[:0])


def inactive(model, run):
    for active in (False, True):
        for hook in run.values():
            hook.active = active
        if not active:
            model(batch(1))


@torch.no_grad()
@pytest.mark.parametrize("other", [empty, inactive])
def test_passes_that_append_nothing_are_not_taken_for_others(other):
    """Without a warning, which the settings of pytest turn into an error."""
    model = network()

    def before(run):
        model(batch(0))
        other(model, run)

    assert ended_by_a_pass(model, before) == expected(model, range(1))


@torch.no_grad()
def test_a_batch_without_room_in_a_pass_that_ends_a_block_is_not_lost():
    model = network()
    counted = ended_by_a_pass(model, lambda run: model(batch(0)), rows=100)
    assert counted == expected(model, range(1))


@torch.no_grad()
def test_a_pass_that_ends_a_block_is_counted_if_graphs_hide_its_rows():
    model = network()

    def before(run):
        graph = Graph(model)
        with run.paused():
            graph.record(batch(0))
            graph.record(batch(0))
        graph.replay(batch(0))
        model(batch(1))

    with pytest.warns(UserWarning, match="post_states: a pass has failed, and graphs do not"):
        counts = ended_by_a_pass(model, before)
    exact = expected(model, range(2))
    assert counts["3_post_states"] == exact["3_post_states"]
    assert counts["0_post_states"].total == exact["0_post_states"].total + 60


@torch.no_grad()
def test_an_error_between_passes_drops_nothing():
    model = network()
    run = ts.Run()

    def capture():
        nonlocal run
        with ts.capture(model, LAYERS, stage_rows=1000) as run:
            model(batch(0))
            run.drain()
            model(batch(1))
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        capture()
    assert {n: point.histogram() for n, point in run.items()} == expected(model, range(2))


@torch.no_grad()
def test_what_waits_is_forgotten_by_a_reset():
    model = network()
    monitor = monitor_of(model, every_n_steps=1)
    model(batch(0))
    monitor.reset()
    model(batch(1))
    assert found(monitor) == expected(model, [1])


@torch.no_grad()
def test_what_waits_is_kept_when_the_monitor_leaves():
    model = network()
    monitor = monitor_of(model, every_n_steps=1)
    model(batch(0))
    monitor.remove()
    assert found(monitor) == expected(model, [0])
