"""Which model input a row belongs to, in a tensor whose rows were written there by their number."""

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.followed_models import Calls
from tests.support.torch_models import expected_rows, images

ORDER = torch.tensor([2, 0, 3, 1])


def by_index(m, x):
    out = torch.zeros_like(h := m.fc(x))
    out[ORDER] = h
    return out


def by_list(m, x):
    out = torch.zeros_like(h := m.fc(x))
    out[[2, 0, 3, 1], :] = h
    return out


def by_number_of_token(m, x):
    out = torch.zeros_like(h := m.fc(x))
    out.view(-1, 9)[torch.randperm(28)] = h.view(-1, 9)
    return out


def through_a_view(m, x):
    out = torch.zeros_like(h := m.fc(x))
    out.view(4, 63).index_copy_(0, ORDER, h.view(4, 63))
    return out


def all_that_lost_inputs(m, x):
    out = torch.zeros_like(h := m.fc(x))
    out.copy_(h[ORDER])
    return out


def parts_that_lost_inputs(m, x):
    out = torch.zeros_like(h := m.fc(x))
    out[:, :3] = h[ORDER][:, :3]
    return out


def along_another_axis(m, x):
    h = m.fc(x)
    return torch.zeros_like(h).index_add(1, torch.arange(7), h[ORDER])


def copied(m, x):
    return torch.zeros_like(h := m.fc(x)).index_copy(0, ORDER, h)


def scattered(m, x):
    h = m.fc(x)
    return torch.zeros_like(h).scatter(0, ORDER[:, None, None].expand_as(h), h)


def put(m, x):
    return torch.zeros_like(h := m.fc(x)).index_put((ORDER,), h)


UNKNOWN = {
    "index": by_index,
    "list": by_list,
    "number of a token": by_number_of_token,
    "view": through_a_view,
    "copy_": all_that_lost_inputs,
    "part": parts_that_lost_inputs,
    "another axis": along_another_axis,
    "index_copy": copied,
    "scatter": scattered,
    "index_put": put,
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_rows_that_are_written_elsewhere_belong_to_no_known_input(kind):
    model = Calls(UNKNOWN[kind], fc=nn.Linear(4, 9))
    with torch.no_grad(), ts.capture(model, "act") as run:
        model(images(4, 7, 4))
    assert (run["act"].axis, run["act"].axis_origin) == (2, "flow")
    assert run.instance_count == 4
    with pytest.raises(ts.errors.InputsUnknown, match="inputs lost at"):
        run["act"].counts(slice(0, 1))


def where_they_came_from(m, x):
    tokens = m.fc(x)
    out = torch.zeros_like(tokens)
    out[ORDER] = tokens[ORDER] * 2
    return out


def in_order(m, x):
    out = torch.zeros_like(h := m.fc(x))
    out[torch.arange(len(x))] = h
    return out


def tokens_of_each(m, x):
    out = torch.zeros_like(h := m.fc(x))
    out[:, [5, 2, 0]] = h[:, :3]
    return out


def one_token_of_each(m, x):
    out = torch.zeros_like(h := m.fc(x))
    out[torch.arange(len(x)), x[..., 0].argmax(1)] = h[:, 0]
    return out


def means_of_all(m, x):
    out = torch.zeros_like(h := m.fc(x))
    out[:, 1:] = h[:, 1:]
    out[:, :1] = h[:, :1].mean(0, keepdim=True)
    return out


KNOWN = {
    "back": where_they_came_from,
    "in order": in_order,
    "tokens": tokens_of_each,
    "one token": one_token_of_each,
    "means": means_of_all,
}


@pytest.mark.parametrize("kind", KNOWN)
def test_rows_that_are_written_within_their_input_belong_to_it(kind):
    model = Calls(KNOWN[kind], fc=nn.Linear(4, 9))
    with torch.no_grad(), ts.capture(model, "act") as run:
        output = model(images(4, 7, 4))
    for number in range(4):
        own = expected_rows(output[number])
        found = run["act"].histogram(slice(number, number + 1))
        assert {row.tobytes() for row in own} == {*found.state_ids()}


@pytest.mark.parametrize("write", ["index", "index_copy"])
def test_a_mask_is_not_applied_to_positions_that_were_written_elsewhere(write):
    order = torch.tensor([4, 2, 0, 1, 3, 6, 5])

    def reordered(m, x):
        out = torch.zeros_like(h := m.fc(x))
        if write == "index":
            out[:, order] = h
            return out
        return out.index_copy(1, order, h)

    model = Calls(reordered, fc=nn.Linear(4, 9))
    keep = (torch.arange(7) < 3).expand(4, 7)
    with torch.no_grad(), ts.capture(model, ["fc", "act"]) as run:
        run.labels(mask=keep)
        with pytest.warns(ts.errors.UnmaskedLayerWarning, match="act"):
            model(images(4, 7, 4))
    assert (run["fc"].state_count, run["act"].state_count) == (12, 28)


def test_a_product_of_weights_is_a_weight():
    """As of LoRA, whose low-rank matrices are added to the weight of a layer."""

    def merged(m, x):
        return nn.functional.linear(x, m.fc.weight + m.up.weight @ m.down.weight)

    model = Calls(merged, fc=nn.Linear(4, 9), down=nn.Linear(4, 2), up=nn.Linear(2, 9))
    with torch.no_grad(), ts.capture(model, "act") as run:
        model(images(3, 7, 4))
    assert (run["act"].axis, run["act"].axis_origin) == (2, "flow")
