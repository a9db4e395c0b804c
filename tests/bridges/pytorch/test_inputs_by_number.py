"""Which model input a row belongs to, where it is taken by its number, or asked for by weights."""

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.followed_models import Calls
from tests.support.torch_models import expected_rows, images

FC = {"fc": nn.Linear(4, 9)}


class Queries(nn.Module):
    """Attention with queries that are weights, as in the heads of vision models."""

    def __init__(self, batch_first):
        super().__init__()
        self.query = nn.Parameter(images(1, 5, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.batch_first = batch_first

    def forward(self, x):
        query = self.query.repeat(len(x), 1, 1)
        if self.batch_first:
            return self.attention(query, x, x)[0]
        query, x = query.transpose(0, 1), x.transpose(0, 1)
        return self.attention(query, x, x)[0].transpose(0, 1)


def last_tokens(m, x):
    return m.fc(x)[torch.arange(len(x)), x[..., 0].argmax(1)]


def first_of_several(m, x):
    order = x[..., 0].argsort(1)[:, :3]
    return m.fc(x)[torch.arange(0, len(x), device=x.device).long()[:, None], order]


def in_bytes(m, x):
    return m.fc(x).mul(255).round().clamp(0, 255).byte() / 255 - 0.5


def noisy(m, x):
    h = m.fc(x)
    return h + torch.empty_like(h).normal_()


KNOWN = {
    "a token of each": (last_tokens, FC),
    "tokens of each": (first_of_several, FC),
    "bytes": (in_bytes, FC),
    "noise": (noisy, FC),
    "other names": (lambda m, x: m.fc(x).absolute().negative().arctan() + 0.3, FC),
    "differences": (lambda m, x: m.fc(x).diff(dim=1), FC),
    "queries": (lambda m, x: m.part(m.fc(x)), {"fc": nn.Linear(4, 8), "part": Queries(True)}),
    "queries first": (
        lambda m, x: m.part(m.fc(x)),
        {"fc": nn.Linear(4, 8), "part": Queries(False)},
    ),
}


@pytest.mark.parametrize("kind", KNOWN)
def test_rows_go_to_their_input(kind):
    function, layers = KNOWN[kind]
    model = Calls(function, **layers)
    with torch.no_grad(), ts.capture(model, "act") as run:
        for size in (3, 2):
            torch.manual_seed(0)
            run.labels(range(size))
            output = model(images(size, 7, 4))
    assert run["act"].axis_origin == "flow"
    for label in range(2):
        own = expected_rows(output[label].reshape(-1, output.shape[-1]))
        rows = run["act"].counts_by()[label]
        assert rows.total == 2 * len(own)
        assert {row.tobytes() for row in own} <= {*rows.state_ids()}


def written(m, x):
    order = torch.arange(len(x))
    order[0] = 1
    return m.fc(x)[order]


def written_by_a_view(m, x):
    order = torch.arange(len(x))
    order[:].copy_(torch.tensor([2, 0, 1]))
    return m.fc(x)[order]


def changed_by_a_view(m, x):
    order = torch.arange(len(x))
    order[1:].add_(-1)
    return m.fc(x)[order]


UNKNOWN = {
    "by numbers that are written to": written,
    "by numbers that are written to by a view": written_by_a_view,
    "by numbers that are changed by a view": changed_by_a_view,
    "by numbers that are changed": lambda m, x: m.fc(x)[torch.arange(len(x)).add_(-1)],
    "in an order by chance": lambda m, x: m.fc(x)[torch.randperm(len(x))],
    "in another order": lambda m, x: m.fc(x)[torch.arange(len(x))[[2, 0, 1]]],
    "from the second on": lambda m, x: m.fc(x)[torch.arange(1, len(x))],
    "every second": lambda m, x: m.fc(x)[torch.arange(0, len(x), 2)],
    "by numbers that only happen to be in order": lambda m, x: m.fc(x)[x.sum((1, 2)).argsort()],
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_rows_that_are_taken_otherwise_have_no_labels(kind):
    x = images(3, 7, 4)
    x = x[x.sum((1, 2)).argsort()]
    model = Calls(UNKNOWN[kind], **FC)
    with ts.capture(model, "act") as run:
        run.labels(range(3))
        model(x)
    with pytest.raises(ts.errors.InputsUnknown, match="inputs lost at __getitem__"):
        run["act"].counts_by()


def test_numbers_that_a_program_writes_to_between_captures():
    """Which the first pass has made, and the model keeps."""

    def function(m, x):
        m.order = getattr(m, "order", torch.arange(len(x)))
        return m.fc(x)[m.order]

    model, x = Calls(function, **FC), images(3, 7, 4)
    with ts.capture(model, "act") as run, run.labels(range(3)):
        model(x)
    assert {*run["act"].counts_by()} == {0, 1, 2}
    model.order.copy_(torch.tensor([2, 0, 1]))
    with ts.capture(model, "act") as run, run.labels(range(3)):
        model(x)
    with pytest.raises(ts.errors.InputsUnknown, match="inputs lost at __getitem__"):
        run["act"].counts_by()


def test_an_order_that_a_program_writes_to_between_captures():
    """The model has kept what was its inverse."""

    def function(m, x):
        if not hasattr(m, "order"):
            m.order = torch.tensor([2, 0, 1])
            m.inverse = torch.empty_like(m.order)
            m.inverse.scatter_(0, m.order, torch.arange(3))
        return m.fc(x).index_select(0, m.order).index_select(0, m.inverse)

    model, x = Calls(function, **FC), images(3, 7, 4)
    with ts.capture(model, "act") as run, run.labels(range(3)):
        model(x)
    assert {*run["act"].counts_by()} == {0, 1, 2}
    model.order.copy_(torch.tensor([0, 1, 2]))
    with ts.capture(model, "act") as run, run.labels(range(3)):
        model(x)
    with pytest.raises(ts.errors.InputsUnknown, match="inputs lost at index_select"):
        run["act"].counts_by()
