"""flex_attention: what layers around it pass, against attention in plain matrices."""

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import expected_rows, images

flex = pytest.importorskip("torch.nn.attention.flex_attention", reason="torch 2.5 or newer")
pytestmark = [
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile"),
    pytest.mark.usefixtures("nothing_compiled_before"),
]
INPUTS, POSITIONS, HEADS, WIDTH = 3, 5, 2, 8
REAL = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])  # the others are padding


def causal(batch, head, query, key):
    return query >= key


def nearer(score, batch, head, query, key):
    return score + 0.1 * (key - query)


class Attention(nn.Module):
    def __init__(self, bias=nearer):
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.out = nn.Linear(16, 3 * HEADS * WIDTH), nn.Linear(HEADS * WIDTH, 9)
        self.act, self.bias = nn.ReLU(), bias

    def forward(self, x, real=None):
        mask = flex.create_block_mask(causal, None, None, POSITIONS, POSITIONS, device="cpu")
        q, k, v = self.parts(x)
        y = flex.flex_attention(q, k, v, score_mod=self.bias, block_mask=mask)
        return self.act(self.out(y.transpose(1, 2).flatten(2)))

    def parts(self, x):
        return self.qkv(x).view(INPUTS, POSITIONS, 3, HEADS, WIDTH).permute(2, 0, 3, 1, 4)

    def by_matrices(self, x):
        """What the layers pass, by name."""
        q, k, v = self.parts(x)
        places = torch.arange(POSITIONS)
        scores = q @ k.mT / WIDTH**0.5
        if self.bias is not None:
            scores = self.bias(scores, None, None, places[:, None], places)
        weights = scores.masked_fill(places > places[:, None], -torch.inf).softmax(-1)
        out = self.out((weights @ v).transpose(1, 2).flatten(2))
        return {"qkv": self.qkv(x), "out": out, "act": out.relu()}


@torch.no_grad()
@pytest.mark.parametrize("backend", [None, "eager"])
def test_layers_before_and_after(backend):
    model, x = Attention(), images(INPUTS, POSITIONS, 16)
    call = torch.compile(model, backend=backend) if backend else model
    with ts.capture(model, "*") as run:
        for _ in range(2):
            run.labels([0, 1, 2])
            call(x)
    for name, passed in model.by_matrices(x).items():
        point, rows = run[name], expected_rows(passed)
        assert np.array_equal(point.raw_states, np.concatenate([rows, rows]))
        assert (point.axis, point.instance_count) == (2, 2 * INPUTS)
        of_inputs = np.split(rows, INPUTS)
        for label, counts in point.counts_by().items():
            each = ts.count_states(of_inputs[label], neurons=point.neurons)
            assert counts == each + each
    assert run["act"].axis_origin == "flow"


def check_without_padding(run, model, x):
    for name, passed in model.by_matrices(x).items():
        assert np.array_equal(run[name].raw_states, expected_rows(passed[REAL.bool()]))


@torch.no_grad()
def test_a_mask_leaves_out_padding():
    model, x = Attention(None), images(INPUTS, POSITIONS, 16)
    with ts.capture(model, "*", mask="real") as run:
        model(x, REAL)
    check_without_padding(run, model, x)


@torch.no_grad()
def test_a_mask_leaves_out_padding_in_a_compiled_model():
    """There, the arguments of the model are not seen."""
    model, x = Attention(), images(INPUTS, POSITIONS, 16)
    with ts.capture(model, "*") as run:
        run.labels(mask=REAL)
        torch.compile(model, backend="eager")(x)
    check_without_padding(run, model, x)


@torch.no_grad()
def test_positions_are_lost_in_a_score_function_that_is_not_compiled():
    model, x = Attention(), images(INPUTS, POSITIONS, 16)
    with (
        ts.capture(model, "*", mask="real") as run,
        pytest.warns(ts.errors.UnmaskedLayerWarning, match="out_post_states .its positions"),
    ):
        model(x, REAL)
    for name, passed in model.by_matrices(x).items():
        rows = expected_rows(passed[REAL.bool()] if name == "qkv" else passed)
        assert np.array_equal(run[name].raw_states, rows)


@torch.no_grad()
def test_layers_inside_a_score_function_are_refused():
    """There, torch computes for single numbers in vmap."""
    distance = nn.Linear(1, 1)

    def learned(score, batch, head, query, key):
        return score + distance((key - query).float()[None])[0]

    model, x = Attention(learned), images(INPUTS, POSITIONS, 16)
    model.distance = distance
    with ts.capture(model, "*"), pytest.raises(TypeError, match=r"inside torch.func.vmap"):
        model(x)
    with ts.capture(model, "*", exclude="distance") as run:
        model(x)
    assert run["act"].state_count == INPUTS * POSITIONS
