"""Where neurons are, followed from what feeds a layer: what models do to tensors in between."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tensorstate_gpu as ts
from tests.support.followed_models import Calls, LayerNorm2d, attention, windows
from tests.support.torch_models import images


class MixerMLP(nn.Module):
    """Named as what has its features last, but it returns (batch, channels, height, width)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 1)

    def forward(self, x):
        return self.conv(x)


class Transposed(nn.Module):
    def forward(self, x):
        return x.transpose(-2, -1)


def shuffled(model, x):
    return model.conv(x).view(2, 3, 4, 5, 6).transpose(1, 2).flatten(1, 2)


def written(model, x):
    y = torch.zeros(2, 5, 8, 9)
    y[:, :, 1:7, 2:8] = model.conv(x)
    return y


def masked(model, x):
    x = model.fc(x)
    return x[x.sum(-1) > 0]


CONV, FC = {"conv": nn.Conv2d(3, 5, 3)}, {"fc": nn.Linear(4, 9)}
# what the model does, its layers, the shape of its input, the axis of the neurons at the end
FOLLOWED = {
    "conv1d": (lambda m, x: m.conv(x), {"conv": nn.Conv1d(3, 8, 3)}, (2, 3, 100), 1),
    "linear on maps": (lambda m, x: m.fc(x), FC, (2, 5, 6, 4), 3),
    "conv2d": (lambda m, x: m.conv(x), CONV, (2, 3, 9, 8), 1),
    "unbatched": (lambda m, x: m.conv(x), CONV, (3, 9, 8), 0),
    "transposed conv": (lambda m, x: m.c(x), {"c": nn.ConvTranspose1d(3, 5, 2)}, (2, 3, 7), 1),
    "flattened": (lambda m, x: m.conv(x).flatten(2), CONV, (2, 3, 9, 8), 1),
    "flattened wholly": (lambda m, x: m.conv(x).flatten(1), CONV, (2, 3, 9, 8), 1),
    "tokens": (lambda m, x: m.conv(x).flatten(2).transpose(1, 2), CONV, (2, 3, 9, 8), 2),
    "norm of channels": (
        lambda m, x: m.norm(m.conv(x)),
        {**CONV, "norm": LayerNorm2d(5)},
        (2, 3, 9, 8),
        1,
    ),
    "norm of all": (
        lambda m, x: m.norm(m.conv(x)),
        {**CONV, "norm": nn.LayerNorm([5, 7, 6])},
        (2, 3, 9, 8),
        1,
    ),
    "norm between transposes": (
        lambda m, x: m.norm(m.conv(x)),
        {
            "conv": nn.Conv1d(3, 8, 3),
            "norm": nn.Sequential(Transposed(), nn.LayerNorm(8), Transposed()),
        },
        (2, 3, 20),
        1,
    ),
    "attention": (attention, {"qkv": nn.Linear(4, 60)}, (2, 7, 4), 2),
    "fused attention": (
        lambda m, x: F.scaled_dot_product_attention(*[m.fc(x)[:, None]] * 3)[:, 0],
        FC,
        (2, 7, 4),
        2,
    ),
    "windows": (windows, FC, (2, 6, 8, 4), 2),
    "shuffled channels": (shuffled, {"conv": nn.Conv2d(3, 12, 1)}, (2, 3, 5, 6), 1),
    "a half of the channels": (lambda m, x: m.fc(x).chunk(2, -1)[0], FC, (2, 7, 4), 2),
    "a gate": (lambda m, x: (m.fc(x) * m.fc(x).sigmoid()).mT, FC, (2, 7, 4), 1),
    "joined": (lambda m, x: torch.cat([m.conv(x), x[:, :, 2:, 2:]], 1), CONV, (2, 3, 9, 8), 1),
    "a token before": (
        lambda m, x: torch.cat([torch.zeros(2, 1, 9), m.fc(x)], 1),
        FC,
        (2, 7, 4),
        2,
    ),
    "the first token": (lambda m, x: m.fc(x)[:, 0], FC, (2, 7, 4), 1),
    "pooled": (lambda m, x: F.max_pool2d(m.conv(x), 2), CONV, (2, 3, 9, 8), 1),
    "averaged": (lambda m, x: m.fc(x).mean((1, 2)), FC, (2, 6, 8, 4), 1),
    "enlarged": (lambda m, x: F.interpolate(m.conv(x), scale_factor=2), CONV, (2, 3, 9, 8), 1),
    "padded": (lambda m, x: F.pad(m.conv(x), (1, 2, 3, 4)), CONV, (2, 3, 9, 8), 1),
    "pixels from channels": (
        lambda m, x: F.pixel_shuffle(m.conv(x), 2),
        {"conv": nn.Conv2d(3, 12, 1)},
        (2, 3, 5, 6),
        1,
    ),
    "written into another": (written, CONV, (2, 3, 8, 8), 1),
    "some rows": (masked, FC, (2, 7, 4), 1),
    "einsum": (
        lambda m, x: torch.einsum("nlc,nkc->nckl", m.fc(x), m.fc(x)),
        FC,
        (2, 7, 4),
        1,
    ),
    "a parameter's product": (
        lambda m, x: (x @ m.fc.weight.t()).permute(0, 2, 1),
        FC,
        (2, 7, 4),
        1,
    ),
    "embedded": (
        lambda m, x: m.table(x.abs().long()).transpose(1, 2),
        {"table": nn.Embedding(9, 6)},
        (2, 7),
        1,
    ),
    "recurrent": (
        lambda m, x: m.gru(x)[0].transpose(1, 2),
        {"gru": nn.GRU(4, 6, batch_first=True)},
        (2, 7, 4),
        1,
    ),
    "a block with a misleading name": (lambda m, x: m.mlp(x), {"mlp": MixerMLP()}, (2, 3, 9, 8), 1),
}


@pytest.mark.parametrize("kind", FOLLOWED)
def test_the_axis_is_followed(kind):
    function, layers, shape, axis = FOLLOWED[kind]
    torch.manual_seed(0)
    model = Calls(function, **layers)
    with ts.capture(model, "act") as run:
        output = model(images(*shape))
    point = run["act_post_states"]
    assert (point.axis, point.axis_origin) == (axis, "flow")
    assert point.neurons == output.shape[axis]
    assert point.state_count == output.numel() // output.shape[axis]


def test_a_longer_clip_after_a_short_one():
    model = Calls(lambda m, x: m.conv(x), conv=nn.Conv1d(3, 8, 3))
    with ts.capture(model, "act") as run:
        model(images(2, 3, 100))
        model(images(2, 3, 250))
        model(images(3, 50))
    point = run["act_post_states"]
    assert (point.neurons, point.state_count) == (8, 2 * 98 + 2 * 248 + 48)
    assert point.instance_count == 5


def test_nothing_is_changed_by_following():
    torch.manual_seed(0)
    model = Calls(attention, qkv=nn.Linear(4, 60))
    x = images(2, 7, 4).requires_grad_()
    model(x).sum().backward()
    bare, x.grad = x.grad, None
    with ts.capture(model, "act"):
        model(x).sum().backward()
    assert torch.equal(bare, x.grad)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_error_in_the_pass_nothing_is_followed_any_more(error):
    def fail(model, x):
        model.fc(x)
        if fails:
            raise error

        return model.fc(x)

    fails = [True]
    model = Calls(fail, **FC)
    with ts.capture(model, "act") as run:
        with pytest.raises(error):
            model(images(2, 7, 4))
        fails.clear()
        model(images(2, 7, 4))
        assert torch._C._len_torch_function_stack() == 0
        fails.append(True)
        with pytest.raises(error):
            model(images(7, 4))  # followed, as its inputs have other axes
    assert torch._C._len_torch_function_stack() == 0
    assert run["act_post_states"].axis_origin == "flow"


def test_threads_follow_their_own_passes():
    model = Calls(lambda m, x: m.conv(x), conv=nn.Conv1d(3, 8, 3))
    with ts.capture(model, "act", keep="counts") as run:
        threads = [threading.Thread(target=model, args=(images(4, 3, 20),)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    point = run["act_post_states"]
    assert (point.axis, point.neurons, point.state_count) == (1, 8, 8 * 4 * 18)


def test_a_part_of_a_model_that_is_called_by_itself():
    model = nn.ModuleDict({"encoder": Calls(lambda m, x: m.conv(x), conv=nn.Conv1d(3, 8, 3))})
    with ts.capture(model, "encoder.act") as run:
        model["encoder"](images(2, 3, 9))
    (point,) = run.efficiency_layers
    assert (point.axis, point.axis_origin) == (1, "flow")
