"""Models that do unusual things to tensors: the axis of their neurons is right, or is a guess.

Where two layouts have the same shape, or a layer has the neurons of another, a wrong axis would not
be noticed by its size: most of these have as many neurons as tokens.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import tensorstate_gpu as ts
from tests.support.followed_models import Calls
from tests.support.torch_models import images

pytestmark = pytest.mark.filterwarnings("ignore::tensorstate_gpu.errors.GuessedAxisWarning")
IMAGE, TOKENS = (2, 3, 8, 12), (2, 7, 4)


class Stack(nn.Module):
    """The weights of three experts, and a router."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(images(3, *shape))
        self.router = nn.Linear(4, 3)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.mT * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient.mT * 2


def patches(m, x):
    y = m.conv(x).reshape(2, 6, 4, 2, 6, 2)
    return y.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def scan(m, x):
    state, states = torch.zeros(2, 7), []
    for token in m.fc(x).unbind(1):
        state = state * 0.5 + token
        states.append(state)
    return torch.stack(states, 2)


def in_place(m, x):
    y = m.fc(x)
    y += 1
    y.mul_(2).relu_()
    y[:, 0] = 0
    return y.mT


def experts_in_turn(m, x):
    rows = x.flatten(0, 1)
    share, chosen = m.experts.router(rows).topk(2, -1)
    out = torch.zeros(14, 8)
    for number, weight in enumerate(m.experts.weight):
        row, place = torch.where(chosen == number)
        out.index_add_(0, row, rows[row] @ weight * share[row, place, None])
    return out


def experts_by_number(m, x):
    """As DBRX does: the number of an expert is a tensor."""
    rows = x.flatten(0, 1)
    chosen = m.experts.router(rows).argmax(-1)
    out = torch.zeros(14, 8)
    for number in torch.arange(3):
        (row,) = torch.where(chosen == number)
        out.index_add_(0, row, rows[row] @ m.experts.weight[number])
    return out


def experts_by_row(m, x):
    rows = x.flatten(0, 1)
    chosen = m.experts.router(rows).argmax(-1)
    return torch.bmm(m.experts.weight[chosen], rows[:, :, None])[:, :, 0]


def experts_in_groups(m, x):
    """As transformers does: rows sorted by expert, one product, and back."""
    rows = x.flatten(0, 1)
    share, chosen = m.experts.router(rows).topk(2, -1)
    order = chosen.flatten().argsort()
    ends = torch.bincount(chosen.flatten(), minlength=3).cumsum(0).int()
    weight = m.experts.weight
    found = F.grouped_mm(F.pad(rows[order // 2], (0, 4)), F.pad(weight, (0, 0, 0, 4)), offs=ends)
    found = found * share.flatten()[order][:, None]
    return torch.empty_like(found).index_copy(0, order, found).view(14, 2, 16).sum(1)


CONV, FC, SQUARE = (
    {"conv": nn.Conv2d(3, 6, 3, padding=1)},
    {"fc": nn.Linear(4, 12)},
    {"fc": nn.Linear(4, 7)},
)
SHARED = {"fc": nn.Linear(4, 7), "norm": nn.LayerNorm(7, elementwise_affine=False)}
DISTANCES = (torch.arange(7)[:, None] - torch.arange(7)).clamp(0)
# what the model does, its layers, the shape of its input, the axis of the neurons at the end
FOLLOWED = {
    "patches": (patches, CONV, IMAGE, 2),
    "unfold": (lambda m, x: F.unfold(m.conv(x), 2, stride=2).mT, CONV, IMAGE, 2),
    "unfold, and its places apart": (
        lambda m, x: F.unfold(m.conv(x), 2, stride=2).view(2, 6, 4, -1).transpose(1, 2),
        CONV,
        IMAGE,
        2,
    ),
    "unfold of tensors": (lambda m, x: m.conv(x).unfold(2, 2, 2).unfold(3, 2, 2), CONV, IMAGE, 1),
    "fold": (
        lambda m, x: F.fold(m.fc(F.unfold(x, 2, stride=2).mT).mT, (8, 12), 2, stride=2),
        {"fc": nn.Linear(12, 24)},
        IMAGE,
        1,
    ),
    "pixel shuffle": (lambda m, x: F.pixel_unshuffle(m.conv(x), 2), CONV, IMAGE, 1),
    "channel shuffle": (lambda m, x: F.channel_shuffle(m.conv(x), 3), CONV, IMAGE, 1),
    "gated channels": (lambda m, x: F.glu(m.conv(x), 1), CONV, IMAGE, 1),
    "squeeze and excite": (
        lambda m, x: m.conv(x) * m.se(x.mean((2, 3))).sigmoid()[:, :, None, None],
        {**CONV, "se": nn.Linear(3, 6)},
        IMAGE,
        1,
    ),
    "two branches": (lambda m, x: torch.stack([m.fc(x), m.fc(x)], -1).flatten(2), FC, TOKENS, 2),
    "some tokens": (
        lambda m, x: m.fc(x).gather(1, x[..., :1].argsort(1)[:, :3].expand(-1, -1, 12)),
        FC,
        TOKENS,
        2,
    ),
    "sorted tokens": (
        lambda m, x: m.fc(x).flatten(0, 1)[x[..., 0].flatten().argsort()],
        FC,
        TOKENS,
        1,
    ),
    "einsum with ellipsis": (
        lambda m, x: torch.einsum("...tc,ts->...sc", m.norm(m.fc(x)), torch.eye(7)).mT,
        SHARED,
        TOKENS,
        1,
    ),
    "operators of aten": (
        lambda m, x: torch.ops.aten.permute.default(
            torch.ops.aten.linear(x, m.fc.weight), [0, 2, 1]
        ),
        SQUARE,
        TOKENS,
        1,
    ),
    "autocast": (torch.autocast("cpu", torch.bfloat16)(lambda m, x: m.fc(x).mT), FC, TOKENS, 1),
    "functional call": (
        lambda m, x: torch.func.functional_call(m.fc, dict(m.fc.named_parameters()), (x,)).mT,
        SQUARE,
        TOKENS,
        1,
    ),
    "checkpoint": (
        lambda m, x: checkpoint(lambda y: m.fc(y).mT, x, use_reentrant=False),
        SQUARE,
        TOKENS,
        1,
    ),
    "own function": (lambda m, x: Doubled.apply(m.fc(x)), SQUARE, TOKENS, 1),
    "in place": (in_place, FC, TOKENS, 1),
    "scan": (scan, SQUARE, TOKENS, 1),
    "Fourier transform of tokens": (
        lambda m, x: torch.fft.irfft(torch.fft.rfft(m.fc(x), dim=1), n=7, dim=1).mT,
        SQUARE,
        TOKENS,
        1,
    ),
    "rotary positions": (
        lambda m, x: torch.view_as_real(torch.view_as_complex(m.fc(x).view(2, 7, 6, 2)) * 1j),
        FC,
        TOKENS,
        2,
    ),
    "mixed tokens": (lambda m, x: m.mix(m.fc(x).mT), {**SQUARE, "mix": nn.Linear(7, 7)}, TOKENS, 2),
    "a product with the weight as input": (
        lambda m, x: F.linear(m.fc.weight, x[0]),
        SQUARE,
        TOKENS,
        0,
    ),
    "norm of rows": (
        lambda m, x: m.norm(m.conv(x).transpose(1, 2)),
        {**CONV, "norm": nn.BatchNorm2d(8)},
        IMAGE,
        1,
    ),
    "norm without weights": (lambda m, x: m.norm(m.fc(x).mT), SHARED, TOKENS, 1),
    "gather": (
        lambda m, x: m.fc(x).gather(2, torch.randperm(7).expand(2, 7, 7)),
        SQUARE,
        TOKENS,
        2,
    ),
    "experts in turn": (experts_in_turn, {"experts": Stack(4, 8)}, TOKENS, 1),
    "experts by number": (experts_by_number, {"experts": Stack(4, 8)}, TOKENS, 1),
    "experts by row": (experts_by_row, {"experts": Stack(8, 4)}, TOKENS, 1),
    "experts in groups": (experts_in_groups, {"experts": Stack(4, 16)}, TOKENS, 1),
    "another layout as data": (lambda m, x: with_data(m.fc(x)), SQUARE, TOKENS, 1),
    "threshold": (lambda m, x: F.threshold(m.fc(x).mT, 0.1, 0.0), SQUARE, TOKENS, 1),
    "sigmoid of special": (lambda m, x: torch.special.expit(m.fc(x).mT), SQUARE, TOKENS, 1),
    "quantised in training": (
        lambda m, x: torch.fake_quantize_per_tensor_affine(m.fc(x).mT, 0.1, 0, -128, 127),
        SQUARE,
        TOKENS,
        1,
    ),
    "out=": (lambda m, x: torch.mul(m.fc(x).mT, 2, out=m.fc(x)), SQUARE, TOKENS, 1),
}


def with_data(y):
    z = torch.zeros(2, 7, 7)
    z.data = y.mT
    return z


def written(write):
    """A model that writes into the output of a layer."""

    def function(m, x):
        y = m.fc(x).clone()
        write(y, m.fc(x).mT)
        return y

    return function


# What holds its neurons nowhere, or where the flow cannot say so: as many neurons as tokens.
NOT_FOLLOWED = {
    # each position takes others of the neurons, as of a table of distances
    "gather": lambda m, x: m.fc(x).gather(2, DISTANCES.expand(2, 7, 7)),
    "take_along_dim": lambda m, x: torch.take_along_dim(m.fc(x), DISTANCES[None], -1),
    "copied over": written(lambda y, z: y.copy_(z)),
    "written over": written(lambda y, z: y.__setitem__(slice(None), z)),
    "written in part": written(lambda y, z: y.__setitem__((slice(None), slice(3)), z[:, :3])),
    "written through a view": written(lambda y, z: y.mT.copy_(z.mT)),
    "added through a view": written(lambda y, z: y[:1].add_(z[:1])),
    "lost and written": written(lambda y, z: y.copy_(torch.cdist(z, z))),
    "put by an index": written(lambda y, z: y.index_copy_(1, torch.arange(7), z)),
    "the largest": lambda m, x: m.fc(x).topk(3, -1).values,
    "sorted": lambda m, x: m.fc(x).sort(-1).values,
    "rolled as one axis": lambda m, x: torch.roll(m.fc(x), 1),
    "neurons among inputs": lambda m, x: m.fc(x).transpose(1, 2).flatten(0, 1)[torch.arange(14)],
    "distances": lambda m, x: torch.cdist(m.fc(x), m.fc(x)) * m.fc(x).mean(1, keepdim=True),
    "both layouts": lambda m, x: m.fc(x) + m.fc(x).mT,
    "of several inputs": lambda m, x: torch.einsum("ntc,nsc->nts", m.fc(x), m.fc(x)),
    "through NumPy": lambda m, x: torch.from_numpy(m.fc(x).detach().numpy().swapaxes(1, 2).copy()),
    "an operator of another library": lambda m, x: torch.ops.odd.transpose(m.fc(x)),
}


@pytest.fixture(autouse=True, scope="module")
def _operator_of_another_library():
    with torch.library._scoped_library("odd", "DEF") as library:
        library.define("transpose(Tensor x) -> Tensor")
        library.impl("transpose", lambda x: x.clone(), "CompositeExplicitAutograd")
        yield


def captured(function, layers, shape):
    torch.manual_seed(0)
    model = Calls(function, **layers)
    with torch.no_grad(), ts.capture(model, "act") as run:
        model(images(*shape))
    return run["act_post_states"]


@pytest.mark.parametrize("kind", FOLLOWED)
def test_the_axis_is_followed(kind):
    *model, axis = FOLLOWED[kind]
    point = captured(*model)
    assert (point.axis, point.axis_origin) == (axis, "flow")


@pytest.mark.parametrize("kind", NOT_FOLLOWED)
def test_where_neurons_are_not_known_the_axis_is_a_guess(kind):
    assert captured(NOT_FOLLOWED[kind], SQUARE, TOKENS).axis_origin != "flow"
