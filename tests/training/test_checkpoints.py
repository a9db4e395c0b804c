"""The state of a monitor: a training that is resumed counts like one that was never killed."""

import functools
import io

import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu.training.epochs import MonitorOfTrainer
from tests.support.training_loops import batch, network, train

OPTIONS = {
    "all": {},
    "window": {"window": 3},
    "few states": {"states_per_step": 5},
    "groups": {"groups": 4},
    "window of groups": {"window": 3, "groups": 4},
}


def saved(*states):
    """States as torch.load() has them, from files that need no trust."""
    file = io.BytesIO()
    torch.save(states, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def monitored(options):
    model = network()
    return model, ts.StateMonitor(model, "Linear", every_n_steps=2, **options)


def evaluate(model, step):
    model.eval()
    with torch.no_grad():
        model(batch(1000 + step))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_killed_at_27_and_resumed_from_23(options):
    model, monitor = monitored(options)
    train(model, range(23), monitor)
    evaluate(model, 23)
    weights, state = saved(model.state_dict(), monitor.state_dict())
    train(model, range(23, 27), monitor)
    train(model, range(27, 40), monitor)  # never killed
    evaluate(model, 40)

    resumed_model, resumed = monitored(options)
    resumed_model.load_state_dict(weights)
    resumed.load_state_dict(state)
    train(resumed_model, range(23, 40), resumed)
    evaluate(resumed_model, 40)
    assert resumed.scalars() == monitor.scalars()
    assert resumed.global_step == monitor.global_step == 40
    for phase in ("train", "eval"):
        assert resumed.counts("0", phase) == monitor.counts("0", phase)
        assert resumed.passed_over("0", phase) == monitor.passed_over("0", phase)
        if "groups" in options:
            assert resumed.grouped("0", phase) == monitor.grouped("0", phase)


def kinds_in(state):
    if isinstance(state, dict):
        return {kind for pair in state.items() for part in pair for kind in kinds_in(part)}
    if isinstance(state, list):
        return {kind for part in state for kind in kinds_in(part)}
    return {type(state)}


def test_only_integers_strings_and_tensors():
    model, monitor = monitored({"groups": 4})
    assert kinds_in(monitor.state_dict()) == {int, str}
    train(model, range(3), monitor)
    assert kinds_in(monitor.state_dict()) == {int, str, torch.Tensor}


def test_a_state_does_not_change_with_the_training():
    model, monitor = monitored({})
    train(model, range(3), monitor)
    state = monitor.state_dict()
    before = monitor.counts("0")
    train(model, range(3, 9), monitor)
    monitor.load_state_dict(state)
    assert monitor.counts("0") == before
    assert monitor.global_step == 3


def test_a_smaller_window_keeps_the_last_steps():
    model, monitor = monitored({"window": 3})
    train(model, range(9), monitor)
    _, short = monitored({"window": 2})
    short.load_state_dict(monitor.state_dict())
    last_model, last = monitored({"window": 2})
    train(last_model, range(9), last)
    assert short.counts("0") == last.counts("0")


def test_inputs_that_are_not_known_are_saved_without_groups():
    class Shuffled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.expert = torch.nn.Linear(6, 9)

        def forward(self, x):
            return self.expert(x[torch.randperm(len(x))])

    model = Shuffled()
    monitor, other = (ts.StateMonitor(model, "expert", groups=4) for _ in range(2))
    with other.paused():
        model(batch(0))
    other.load_state_dict(*saved(monitor.state_dict()))
    assert other.counts("expert") == monitor.counts("expert")
    with pytest.raises(ts.errors.InputsUnknown):
        other.grouped("expert")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attach_to": "ReLU"}, "other layers: only there are 0_post_states, 2_post_states; only"),
        ({"threshold": 0.5}, 'another firing rule: {"threshold": 0.5}, here it is {"threshold": 0'),
        ({"groups": 8}, "another number of groups: 8, here it is None"),
    ],
)
def test_the_state_of_another_model(options, message):
    model, monitor = monitored({})
    train(model, range(3), monitor)
    state = monitor.state_dict()
    if "attach_to" in options:
        monitor = ts.StateMonitor(model, **options)
    else:
        state = ts.StateMonitor(model, "Linear", **options).state_dict()
    before = monitor.scalars()
    with pytest.raises(ValueError, match=message.replace("{", r"\{")):
        monitor.load_state_dict(state)
    assert monitor.scalars() == before


@pytest.mark.parametrize("state", [None, {}, {"weight": torch.ones(3)}, [1]])
def test_something_else_than_a_state(state):
    _, monitor = monitored({})
    with pytest.raises(TypeError, match="state_dict\\(\\) of a StateMonitor"):
        monitor.load_state_dict(state)


def test_a_state_without_some_part():
    monitor = ts.StateMonitor(network(), "0")
    state = monitor.state_dict()
    del state["counts"], state["firing"]
    with pytest.raises(ValueError, match="state is incomplete: it has no counts, firing"):
        monitor.load_state_dict(state)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_distributed_checkpoints(tmp_path):
    """They read only what the loading monitor has: nothing of it may be lost in silence."""
    from torch.distributed import checkpoint

    model, monitor = monitored({})
    train(model, range(3), monitor)
    _, resumed = monitored({})
    checkpoint.save({"monitor": monitor}, checkpoint_id=tmp_path / "direct", no_dist=True)
    with pytest.raises(ValueError, match="it has 0 histograms, and had 2 when it was saved"):
        checkpoint.load({"monitor": resumed}, checkpoint_id=tmp_path / "direct", no_dist=True)

    file = io.BytesIO()
    torch.save(monitor.state_dict(), file)
    saved = {"monitor_0": file.getvalue()}
    checkpoint.save(saved, checkpoint_id=tmp_path / "bytes", no_dist=True)
    loaded = {"monitor_0": b""}
    checkpoint.load(loaded, checkpoint_id=tmp_path / "bytes", no_dist=True)
    resumed.load_state_dict(torch.load(io.BytesIO(loaded["monitor_0"]), weights_only=True))
    assert resumed.scalars() == monitor.scalars()


def test_a_format_of_the_future():
    _, monitor = monitored({})
    with pytest.raises(ValueError, match="the format 7; this version reads 1"):
        monitor.load_state_dict({**monitor.state_dict(), "format": 7})


# ---- of several ranks ----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"window": 2}, {"groups": 4}])
def test_states_of_several_ranks_are_added_up(options):
    model, monitor = monitored(options)
    train(model, range(5), monitor)
    state = monitor.state_dict()
    _, resumed = monitored(options)
    resumed.load_state_dict([state, state])
    assert resumed.global_step == 5
    assert resumed.counts("0") == monitor.counts("0").merge(monitor.counts("0"))
    if "groups" in options:
        assert resumed.grouped("0") == monitor.grouped("0").merge(monitor.grouped("0"))
    for wrong in ([], [state, {**state, "global_step": 4}]):
        with pytest.raises(ValueError, match="states must be of the same step, and at least one"):
            resumed.load_state_dict(wrong)
    assert resumed.global_step == 5


def trained(rank, **options):
    """A callback's monitor after steps with batches of its own."""
    own = MonitorOfTrainer("0", (), every_n_steps=1, **options)
    model = network()
    monitor = own.begin(model)
    for step in range(3):
        model(batch(10 * rank + step))
        monitor.step()
    if rank == 1:
        model.eval()(batch(99))
    return own


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_counts_of_three_ranks_on_another_number_of_ranks(options, ranks):
    before = [trained(rank, **options) for rank in range(3)]
    state = {"ranks": [own.state_dict() for own in before]}
    after = [MonitorOfTrainer("0", (), every_n_steps=1, **options) for _ in range(ranks)]
    for rank, own in enumerate(after):
        own.load_share(state, rank, ranks)
        own.begin(network())
    old = [own.monitor for own in before]
    new = [own.monitor for own in after[:3]]
    assert sum(each.counts("0") for each in new) == sum(each.counts("0") for each in old)
    left_out = [sum(each.passed_over("0") for each in some) for some in (old, new)]
    assert left_out[0] == left_out[1]
    assert new[1 % ranks].counts("0", "eval") == old[1].counts("0", "eval")
    if "groups" in options:
        assert sum_of_groups(new) == sum_of_groups(old)
    for own in after[3:]:
        with pytest.raises(ts.errors.NothingCaptured):
            own.monitor.counts("0")


def test_a_rank_without_counts_beside_one_that_has_some():
    own = MonitorOfTrainer("0", (), every_n_steps=1)
    own.load_share({"ranks": [{}, trained(0).state_dict()]}, 0, 1)
    own.begin(network())
    assert own.monitor.counts("0").total == 24


def test_a_training_goes_on_at_its_step_without_counts():
    """Which steps are captured is the same on all ranks, also on those that have no counts."""
    own = MonitorOfTrainer("0", (), every_n_steps=4)
    own.begin_training(network(), 6)
    assert own.monitor.global_step == 6
    assert not own.monitor.is_capturing


def sum_of_groups(monitors):
    return functools.reduce(ts.GroupedCounts.merge, (monitor.grouped("0") for monitor in monitors))


@torch.no_grad()
def test_the_step_of_a_checkpoint_is_captured_at_once():
    """Though the step before loading was not, so that the hooks had left the model."""
    state = ts.StateMonitor(network(), every_n_steps=2).state_dict()
    monitor = ts.StateMonitor(model := network(), every_n_steps=2)
    model(batch(0))
    monitor.step(1)
    monitor.load_state_dict(state)
    model(batch(0))
    assert monitor.counts("0").total == 8
