"""Batches one after the other in one tensor: pairs of views, crops, guidance by two conditions."""

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.followed_models import Calls
from tests.support.torch_models import expected_rows, images


def layers():
    torch.manual_seed(0)
    return {"body": nn.Linear(4, 9), "act": nn.ReLU(), "head": nn.Linear(9, 5)}


def joined(m, x):
    return torch.cat([x, x + 1, -x])


def by_vstack(m, x):
    return torch.vstack([x, x + 1, -x])


def side_by_side(m, x):
    return torch.cat([torch.cat([x, x + 1]), torch.cat([-x, x * 2])])


JOINED = {"cat": joined, "vstack": by_vstack, "twice": side_by_side}


def rows_by_input(tensor, inputs):
    """The rows of each input, where the batches of all inputs lie one after the other."""
    batches = tensor.detach().unflatten(0, (-1, inputs))
    return [sorted(map(bytes, expected_rows(batches[:, i]))) for i in range(inputs)]


def captured_by_input(point):
    found = [point.histogram([i]) for i in range(point.instance_count)]
    each = [zip(h.state_ids(), h.counts, strict=True) for h in found]
    return [sorted(bytes(s) for s, count in pairs for _ in range(count)) for pairs in each]


def check_inputs(how, shape, sizes, backend=None):
    model = Calls(lambda m, x: m.act(m.body(JOINED[how](m, x))), **layers())
    called = model if backend is None else torch.compile(model, backend=backend)
    expected = []
    with ts.capture(model, ["body", "act"]) as run:
        for number, size in enumerate(sizes):
            output = called(images(size, *shape, seed=number))
            expected += rows_by_input(output, size)
    assert run.instance_count == sum(sizes)
    for point in run.values():
        assert captured_by_input(point) == expected


@pytest.mark.parametrize("sizes", [(4,), (3, 3, 2), (1, 5), (5, 1)])
@pytest.mark.parametrize("shape", [(4,), (6, 4)])
@pytest.mark.parametrize("how", JOINED)
def test_each_batch_has_all_inputs(how, shape, sizes):
    check_inputs(how, shape, sizes)


@pytest.mark.parametrize("how", JOINED)
def test_each_batch_has_all_inputs_in_a_compiled_model(how):
    torch.compiler.reset()
    check_inputs(how, (6, 4), (3, 3, 2), "eager")


CUT_AGAIN = {
    "chunk": lambda z: z.chunk(3)[1],
    "split": lambda z: z.split(len(z) // 3)[2],
    "tensor_split": lambda z: z.tensor_split(3)[0],
    "view": lambda z: z.view(3, -1, *z.shape[1:]).mean(0),
    "unflatten": lambda z: z.unflatten(0, (3, -1)).transpose(0, 1),
}


@pytest.mark.parametrize("how", CUT_AGAIN)
def test_batches_that_are_cut_apart_again_have_all_inputs(how):
    """As the predictions with and without a condition are, and the embeddings of two views."""
    model = Calls(lambda m, x: m.head(CUT_AGAIN[how](m.body(joined(m, x)))), **layers())
    with ts.capture(model, "head") as run:
        first, second = model(images(4, 6, 4)), model(images(3, 6, 4, seed=1))
    expected = [sorted(map(bytes, expected_rows(each))) for each in (*first, *second)]
    assert captured_by_input(run["head"]) == expected


UNKNOWN = {
    "in another order": lambda m, x: torch.cat([x, x.flip(0)]),
    "shuffled": lambda m, x: torch.cat([x, x[torch.tensor([2, 0, 1, 3])]]),
    "halves": lambda m, x: torch.cat([x[2:], x[:2]]),
    "more of one": lambda m, x: torch.cat([x, x[:2]]),
    "a queue of as many": lambda m, x: torch.cat([x, m.queue]),
    "another axis counts the inputs": lambda m, x: torch.cat([x, x.transpose(0, 1)]),
}


@pytest.mark.parametrize("how", UNKNOWN)
def test_other_rows_in_one_tensor_have_no_labels(how):
    function = UNKNOWN[how]
    model = Calls(lambda m, x: m.body(function(m, x)), **layers())
    model.register_buffer("queue", images(4, 4, 4, seed=1))
    with ts.capture(model, "body") as run, run.labels(range(4)):
        model(images(4, 4, 4))
    assert run["body"].state_count in (16, 24, 32)
    with pytest.raises(ts.errors.InputsUnknown):
        run["body"].counts_by()


@pytest.mark.parametrize("how", [lambda z: z.split([3, 5])[1], lambda z: z.chunk(4)[1]])
def test_cuts_across_the_batches_have_no_labels(how):
    model = Calls(lambda m, x: m.head(how(m.body(torch.cat([x, x + 1])))), **layers())
    with ts.capture(model, "head") as run, run.labels(range(4)):
        model(images(4, 4))
    with pytest.raises(ts.errors.InputsUnknown):
        run["head"].counts_by()


def test_a_pair_of_views_is_labelled_once():
    """SimCLR: both views of an image have its label."""
    model = Calls(lambda m, x, y: m.head(m.act(m.body(torch.cat([x, y])))), **layers())
    with ts.capture(model, "*") as run, run.labels(["cat", "dog", "cat"]):
        model(images(3, 4), images(3, 4, seed=1))
    for point in run.values():
        totals = {label: counts.total for label, counts in point.counts_by().items()}
        assert totals == {"cat": 4, "dog": 2}
    np.testing.assert_array_equal([p.states_per_instance() for p in run.values()], 2)
