"""Which model input a row belongs to, where rows of inputs are taken and written one by one."""

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.followed_models import Calls
from tests.support.torch_models import expected_rows, images

ORDER = torch.tensor([2, 0, 3, 1])


def one_by_one(m, x):
    out = torch.zeros_like(h := m.fc(x))
    for i in range(4):
        out[3 - i] = h[i]
    return out


def by_tensors(m, x):
    out = torch.zeros_like(h := m.fc(x))
    for i in range(4):
        out[ORDER[i], :, :] = h[i] * 2
    return out


def halves(m, x):
    out = torch.empty_like(h := m.fc(x))
    out[:2], out[2:] = h[2:], h[:2]
    return out


def two_of_them(m, x):
    out = (h := m.fc(x)).clone()
    out[[0, 1]] = h[[1, 0]]
    return out


def swapped(m, x):
    out = m.fc(x)
    first = out[0].clone()
    out[0] = out[1]
    out[1] = first
    return out


def through_rows(m, x):
    out = torch.zeros_like(h := m.fc(x))
    for i in range(4):
        out.select(0, 3 - i).copy_(h[i])
    return out


def parts(m, x):
    out = torch.zeros_like(h := m.fc(x))
    for there, part in zip((2, 0), h.chunk(2), strict=True):
        out[there : there + 2] = part.relu()
    return out


def apart(m, x):
    out = torch.zeros_like(h := m.fc(x))
    for i, row in enumerate(h.unbind()):
        out[i - 1] = row
    return out


def narrowed(m, x):
    out = torch.zeros_like(h := m.fc(x))
    return out.index_copy(0, torch.tensor([0, 1]), h.narrow(0, 2, 2))


def mixed(m, x):
    """Of each input and another one, as CutMix takes them."""
    h = m.fc(x)
    return torch.where(torch.arange(7)[:, None] < 3, h[ORDER], h)


def chosen(m, x):
    h = m.fc(x)
    return torch.where(x[:, :1, :1] > 0, h, h[[1, 0, 3, 2]])


def flipped(m, x):
    h = m.fc(x)
    return torch.where(x[:, :1, :1] > 0, h, h.flip(0))


def rolled(m, x):
    h = m.fc(x)
    return torch.where(x[:, :1, :1] > 0, torch.roll(h, 1, dims=0), h)


def filled_in(m, x):
    """The first rows fill the places that a mask leaves, whose are other inputs."""
    h = m.fc(x)
    return h.masked_scatter(torch.tensor([False, True, True, True])[:, None, None], h * 2)


def filled_unevenly(m, x):
    """As many places as there are entries, but not as many of each input."""
    h = m.fc(x)
    places = torch.arange(14) < torch.tensor([0, 14, 9, 5])[:, None]
    return torch.cat([h, h], 1).masked_scatter_(places[..., None], h)


def padded(m, x):
    return nn.functional.pad(m.fc(x), (0, 0, 0, 0, 1, -1))


def positions_first(m, x):
    """Into the view of all rows, in another order than they have there."""
    out = torch.zeros_like(h := m.fc(x))
    out.view(28, 9).copy_(h.transpose(0, 1).reshape(28, 9))
    return out


def other_way_round(m, x):
    """As many positions as inputs: nothing shows that they change places."""
    out = torch.zeros_like(h := m.fc(x[:, :4]))
    out[:] = h.transpose(0, 1)
    return out


def some_neurons(m, x):
    out = torch.zeros_like(h := m.fc(x[:, :4]))
    out[..., :3] = h.transpose(0, 1)[..., :3]
    return out


MOVED = {
    "positions first": positions_first,
    "other way round": other_way_round,
    "some neurons": some_neurons,
    "filled in": filled_in,
    "filled unevenly": filled_unevenly,
    "padded": padded,
    "one by one": one_by_one,
    "by tensors": by_tensors,
    "halves": halves,
    "two of them": two_of_them,
    "swapped": swapped,
    "through rows": through_rows,
    "parts": parts,
    "apart": apart,
    "narrowed": narrowed,
    "mixed": mixed,
    "chosen": chosen,
    "flipped": flipped,
    "rolled": rolled,
}


@pytest.mark.parametrize("kind", MOVED)
def test_rows_that_move_to_other_inputs_belong_to_no_known_one(kind):
    model = Calls(MOVED[kind], fc=nn.Linear(4, 9))
    with torch.no_grad(), ts.capture(model, ["fc", "act"]) as run:
        output = model(images(4, 7, 4))
    assert (run["act"].axis, run["act"].axis_origin) == (2, "flow")
    assert run["act"].histogram() == ts.count_states(expected_rows(output), 9)
    with pytest.raises(ts.errors.InputsUnknown, match="inputs lost at"):
        run["act"].counts(slice(0, 1))


IN_GRAPHS = ["two of them", "narrowed", "mixed", "chosen", "filled in", "through rows"]


@pytest.mark.parametrize("kind", IN_GRAPHS)
def test_rows_that_move_in_compiled_models(kind):
    """The numbers in tensors are not known when the graph is made."""
    torch.compiler.reset()
    model = Calls(MOVED[kind], fc=nn.Linear(4, 9))
    with torch.no_grad(), ts.capture(model, ["fc", "act"]) as run:
        output = torch.compile(model, backend="eager")(images(4, 7, 4))
    assert (run["act"].axis, run["act"].axis_origin) == (2, "flow")
    assert run["act"].histogram() == ts.count_states(expected_rows(output), 9)
    with pytest.raises(ts.errors.InputsUnknown, match="inputs lost at"):
        run["act"].counts(slice(0, 1))


def each_with_its_own(m, x):
    out = torch.zeros_like(h := m.fc(x))
    for i in range(4):
        out[i] = h[i] * 2
    return out


def last_first(m, x):
    out = torch.zeros_like(h := m.fc(x))
    for i in reversed(range(4)):
        out[i - 4] = h[i].relu()
    return out


def images_among_tokens(m, x):
    """As a language model gets the features of an image for each text."""
    h = m.fc(x)
    places = torch.arange(7) % 2 == torch.tensor([0, 1, 0, 1])[:, None]
    places[:, -1] = False
    return h.masked_scatter(places[..., None], m.fc(x[:, :3]))


def shifted_tokens(m, x):
    return nn.functional.pad(m.fc(x), (0, 0, 1, -1))


def by_mask(m, x):
    out = torch.zeros_like(h := m.fc(x))
    are_wanted = x[:, 0, 0] > x[:, 0, 0].median()
    out[are_wanted] = h[are_wanted] * 2
    out[~are_wanted] = h[torch.nonzero(~are_wanted)[:, 0]]
    return out


def where_first_is(m, x):
    """A row that is the same for all."""
    h = m.fc(x)
    return torch.where(h > -10, h, h[1])


def steps(m, x):
    out = torch.zeros_like(h := m.fc(x))
    for i in range(7):
        out[:, 6 - i] = h[:, i]
    return out


def messages(m, x):
    """Each gets the sum of what others send: its row is its own."""
    h = m.fc(x)
    return torch.zeros_like(h).index_add(0, ORDER, h[[0, 1, 2, 3]])


def flipped_steps(m, x):
    h = m.fc(x)
    return torch.where(h > 0, h, h.flip(1).roll(1, 1))


def put_back(m, x):
    """As experts put back the rows that they have taken."""
    out = torch.zeros_like(h := m.fc(x))
    at = torch.tensor([2, 0])
    return out.index_copy(0, at, h[at] * 2)


def one_row_for_all(m, x):
    out = m.fc(x).clone()
    out[:, 1:] = out[:, :1] * 2
    out[:, 0] = out[:, 1] + out[:1, 2]
    return out


KEPT = {
    "one row for all": one_row_for_all,
    "put back": put_back,
    "each": each_with_its_own,
    "last first": last_first,
    "images among tokens": images_among_tokens,
    "shifted tokens": shifted_tokens,
    "mask": by_mask,
    "one for all": where_first_is,
    "steps": steps,
    "messages": messages,
    "flipped steps": flipped_steps,
}


@pytest.mark.parametrize("kind", KEPT)
def test_rows_that_stay_with_their_input_belong_to_it(kind):
    model = Calls(KEPT[kind], fc=nn.Linear(4, 9))
    with torch.no_grad(), ts.capture(model, "act") as run:
        output = model(images(4, 7, 4))
    for number in range(4):
        own = ts.count_states(expected_rows(output[number]), 9)
        assert run["act"].histogram([number]) == own


@pytest.mark.parametrize("kind", ["each", "put back", "steps", "messages", "shifted tokens"])
def test_rows_that_stay_in_compiled_models(kind):
    torch.compiler.reset()
    model = Calls(KEPT[kind], fc=nn.Linear(4, 9))
    with torch.no_grad(), ts.capture(model, ["fc", "act"]) as run:
        output = torch.compile(model, backend="eager")(images(4, 7, 4))
    for number in range(4):
        own = ts.count_states(expected_rows(output[number]), 9)
        assert run["act"].histogram([number]) == own
