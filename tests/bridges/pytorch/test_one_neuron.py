"""Layers of one neuron whose axis is squeezed away: values, energies, masks, durations."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tensorstate_gpu as ts
from tests.support.followed_models import Calls
from tests.support.torch_models import expected_rows, images

SQUEEZED = {
    "squeeze": (lambda m, x: m.fc(x).squeeze(-1), (4,)),
    "tokens, in place": (lambda m, x: m.fc(x).squeeze_(-1), (7, 4)),
    "index": (lambda m, x: m.fc(x)[..., 0], (4,)),
    "squeeze all": (lambda m, x: m.fc(x).squeeze(), (4,)),
    "view": (lambda m, x: m.fc(x).view(-1), (4,)),
    "flatten": (lambda m, x: m.fc(x).flatten(), (4,)),
    "tokens": (lambda m, x: m.fc(x).squeeze(-1), (7, 4)),
    "tokens, viewed": (lambda m, x: m.fc(x).view(x.shape[:2]), (7, 4)),
    "tokens, folded": (lambda m, x: m.fc(x.reshape(-1, 4)).view(x.shape[:2]), (7, 4)),
    "tokens, of which one is for all": (
        lambda m, x: m.fc(x).squeeze(-1) - m.fc(x[:, 0]),
        (7, 4),
    ),
    "tokens, weighed": (
        lambda m, x: torch.einsum("bt,bt->b", m.fc(x).squeeze(-1), x[..., 0]),
        (7, 4),
    ),
    "tokens, computed with": (lambda m, x: m.fc(x).squeeze(-1).neg() * 2 + 1, (7, 4)),
    "similarity": (lambda m, x: F.cosine_similarity(m.wide(x), m.wide(x + 1)), (4,)),
    "distance": (lambda m, x: F.pairwise_distance(m.wide(x), m.wide(x + 1)) - 0.2, (4,)),
    "product with a vector": (lambda m, x: m.wide(x) @ m.fc.weight.new_ones(5), (4,)),
    "product with a vector, mv": (lambda m, x: torch.mv(m.wide(x), torch.ones(5)), (4,)),
    "a vector's product": (lambda m, x: torch.ones(5) @ m.wide(x).T, (4,)),
    "mask of an image": (lambda m, x: m.conv(x).squeeze(1), (3, 5, 6)),
}


def squeezed(how):
    torch.manual_seed(0)
    return Calls(
        SQUEEZED[how][0], fc=nn.Linear(4, 1), wide=nn.Linear(4, 5), conv=nn.Conv2d(3, 1, 1)
    )


@pytest.mark.parametrize("sizes", [(3, 3), (3, 2, 1), (1, 3)])
@pytest.mark.parametrize("how", SQUEEZED)
def test_each_entry_is_a_state_of_the_neuron(how, sizes):
    """Not of as many neurons as there are inputs, of which the last batch has fewer."""
    model, expected, labels, ndims = squeezed(how), [], [], []
    with ts.capture(model, "act") as run:
        for size in sizes:
            x = images(size, *SQUEEZED[how][1])
            with run.labels(range(size)):
                out = model(x)
            ndims.append(out.ndim)
            expected.append((out > 0).reshape(-1, 1).to(torch.uint8).numpy())
            labels += [n for n in range(size) for _ in range(out.numel() // size)]
    act, expected = run["act"], np.concatenate(expected)
    assert (act.neurons, act.axis, act.axis_origin) == (1, ndims[0], "flow")
    np.testing.assert_array_equal(act.raw_states, expected)
    for label, counts in act.counts_by().items():
        assert counts.total == labels.count(label)


@pytest.mark.usefixtures("nothing_compiled_before")
@pytest.mark.parametrize(("how", "options"), [("squeeze", {}), ("tokens", {"stage_rows": 1000})])
def test_where_the_model_is_compiled(how, options):
    model = squeezed(how)
    compiled = torch.compile(model, backend="eager")
    expected = []
    with ts.capture(model, "act", **options) as run:
        for size in (3, 3, 2):
            out = compiled(images(size, *SQUEEZED[how][1]))
            expected.append((out > 0).reshape(-1, 1).to(torch.uint8).numpy())
    assert run["act"].neurons == 1
    np.testing.assert_array_equal(run["act"].raw_states, np.concatenate(expected))


def test_states_may_be_reset_for_a_shape_without_the_axis():
    model = squeezed("tokens")
    with ts.capture(model, "act") as run:
        model(images(3, 7, 4))
        run["act"].reset_states((3, 7))
        assert (run["act"].neurons, run["act"].axis) == (1, 2)
        model(images(2, 5, 4))
    assert run["act"].state_count == 10


def test_a_mask_holds_for_the_only_neuron():
    model, keep = squeezed("tokens"), torch.arange(7) < torch.tensor([3, 7])[:, None]
    with ts.capture(model, "act") as run, run.labels([0, 1], mask=keep):
        model(images(2, 7, 4))
    totals = {label: counts.total for label, counts in run["act"].counts_by().items()}
    assert totals == {0: 3, 1: 7}


WIDER = {
    "scaled": lambda m, x: x * m.fc(x),
    "scaled, squeezed": lambda m, x: x * m.fc(x).squeeze(-1)[:, :, None],
    "repeated": lambda m, x: x[0].repeat_interleave(m.fc(x)[0, :, 0].abs().ceil().int(), 0)[None],
}


@pytest.mark.parametrize("how", WIDER)
def test_inputs_that_single_neurons_scale_or_repeat_are_wider(how):
    """They have no neurons that were followed; their last axis is a guess."""
    model = Calls(WIDER[how], fc=nn.Linear(4, 1))
    with pytest.warns(ts.errors.GuessedAxisWarning), ts.capture(model, "act") as run:
        model(images(3, 7, 4))
    assert (run["act"].neurons, run["act"].axis, run["act"].axis_origin) == (4, 2, "guess")


def pooled(m, x):
    return torch.einsum("bt,btd->bd", m.fc(x).squeeze(-1).softmax(-1), x)


SCALES = {
    "gate": lambda m, x: x[:, 0] * m.fc(x[:, 0]),
    "gate, in place": lambda m, x: x[:, 0].clone().mul_(m.fc(x[:, 0]).squeeze(-1)[:, None]),
    "norm": lambda m, x: x[:, 0] / m.wide(x[:, 0]).norm(dim=1, keepdim=True),
    "pooling": pooled,
    "pooling, kept axis": lambda m, x: (m.fc(x).softmax(1).mT @ x).squeeze(1),
}


@pytest.mark.parametrize("how", SCALES)
def test_inputs_that_single_neurons_weigh_are_features(how):
    """However many positions they are summed over: a table of inputs and features is no guess."""
    model = Calls(SCALES[how], fc=nn.Linear(4, 1), wide=nn.Linear(4, 5))
    expected = []
    with ts.capture(model, "act") as run:
        for size in (3, 2):
            with run.labels(range(size)):
                expected.append(expected_rows(model(images(size, 7, 4))))
    act = run["act"]
    assert (act.neurons, act.axis, act.axis_origin) == (4, 1, "rule")
    np.testing.assert_array_equal(act.raw_states, np.concatenate(expected))
    assert {label: c.total for label, c in act.counts_by().items()} == {0: 2, 1: 2, 2: 1}


def test_scores_of_pairs_mix_inputs_that_stay_without_neurons():
    def mixed(m, x):
        return m.fc(x[:, :, None] - x[:, None]).squeeze(-1).softmax(-1) @ x

    model = Calls(mixed, fc=nn.Linear(4, 1))
    with pytest.warns(ts.errors.GuessedAxisWarning), ts.capture(model, "act") as run:
        model(images(3, 7, 4))
    assert (run["act"].neurons, run["act"].axis, run["act"].axis_origin) == (4, 2, "guess")


def test_patches_of_the_only_channel_are_neurons():
    model = Calls(lambda m, x: F.unfold(m.conv(x), 2), conv=nn.Conv2d(3, 1, 1))
    with ts.capture(model, "act") as run:
        model(images(2, 3, 5, 6))
    assert (run["act"].neurons, run["act"].axis, run["act"].axis_origin) == (4, 1, "flow")


SIDE_BY_SIDE = {
    "stacked": lambda m, x: torch.stack([m.fc(x).squeeze(1), m.second(x).squeeze(1)], 1),
    "squeezed after": lambda m, x: torch.stack([m.fc(x), m.second(x)], 1).squeeze(2),
}


@pytest.mark.parametrize("how", SIDE_BY_SIDE)
def test_single_neurons_side_by_side_are_a_guess(how):
    """They are of several layers, or of one that ran several times: nothing tells."""
    model = Calls(SIDE_BY_SIDE[how], fc=nn.Linear(4, 1), second=nn.Linear(4, 1))
    warns = pytest.warns(ts.errors.GuessedAxisWarning, match="lost at stack")
    with warns, ts.capture(model, "act") as run:
        model(images(3, 4))
    assert (run["act"].neurons, run["act"].axis, run["act"].axis_origin) == (2, 1, "guess")


def test_energies_of_the_inputs_are_of_one_neuron():
    model = Calls(lambda m, x: m.fc(x).square().sum(1) - 1, fc=nn.Linear(4, 5))
    with ts.capture(model, "act") as run:
        for size in (4, 3):
            with run.labels(range(size)):
                model(images(size, 4))
    assert (run["act"].neurons, run["act"].state_count) == (1, 7)
    assert {label: c.total for label, c in run["act"].counts_by().items()} == {
        0: 2,
        1: 2,
        2: 2,
        3: 1,
    }


def test_a_product_of_single_neurons_is_one():
    model = Calls(lambda m, x: m.fc(x).sigmoid() * m.fc(x).tanh(), fc=nn.Linear(4, 1))
    with ts.capture(model, "act") as run:
        model(images(3, 7, 4))
    assert (run["act"].axis, run["act"].axis_origin, run["act"].neurons) == (2, "flow", 1)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_positions_of_a_flattened_map_are_neurons(channels):
    """However many channels the map has."""
    model = Calls(lambda m, x: m.conv(x).flatten(1), conv=nn.Conv2d(3, channels, 1))
    with ts.capture(model, "act") as run:
        out = model(images(4, 3, 5, 6))
    act = run["act"]
    assert (act.axis, act.axis_origin, act.neurons) == (1, "flow", 30 * channels)
    np.testing.assert_array_equal(act.raw_states, expected_rows(out))


def test_a_table_of_what_was_computed_from_neurons_is_a_guess():
    """Its columns are positions, of which another batch may have others: no pass fails for it."""
    model = Calls(lambda m, x: m.fc(x).mean(-1), fc=nn.Linear(4, 6))
    warns = pytest.warns(ts.errors.GuessedAxisWarning)
    with warns as seen, ts.capture(model, "act") as run:
        for positions in (7, 7, 5):
            model(images(3, positions, 4))
    first, second = (str(each.message) for each in seen)
    assert "act_post_states (lost at mean)" in first
    assert "not always as many" in second
    assert run["act"].passes == (2, 3)


def test_the_only_channel_of_a_larger_image_is_known():
    model = Calls(lambda m, x: F.pixel_shuffle(m.conv(x), 2), conv=nn.Conv2d(3, 4, 1))
    with ts.capture(model, "act") as run:
        model(images(2, 3, 5, 6))
    assert (run["act"].axis, run["act"].axis_origin, run["act"].neurons) == (1, "flow", 1)
