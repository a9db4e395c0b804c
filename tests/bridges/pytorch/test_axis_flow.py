"""Where neurons are, followed from what feeds a layer: what models do to tensors in between."""

import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tensorstate_gpu as ts
from tensorstate_gpu.errors import GuessedAxisWarning
from tests.support.torch_models import expected_rows, images


class Calls(nn.Module):
    """A model that is a function of its input and its layers; what it returns went through act."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.act = nn.ReLU()

    def forward(self, *inputs):
        return self.act(self.function(self, *inputs))


class LayerNorm2d(nn.LayerNorm):
    """A norm of channels that are axis 1, as in ConvNeXt."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


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


def attention(model, x):
    q, k, v = model.qkv(x).reshape(2, 7, 3, 4, 5).permute(2, 0, 3, 1, 4)
    return (F.softmax(q @ k.transpose(-2, -1), -1) @ v).transpose(1, 2).reshape(2, 7, 20)


def windows(model, x):
    """Swin's: (batch * windows, positions, channels)."""
    x = torch.roll(model.fc(x), (-1, -1), (1, 2))
    return x.view(2, 2, 3, 2, 4, 9).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, 12, 9)


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


@pytest.mark.parametrize(
    ("layer", "shape", "axis", "origin"),
    [
        (nn.Conv2d(3, 5, 3), (2, 3, 9, 8), 1, "layer"),
        (nn.LayerNorm(8), (2, 3, 9, 8), 3, "layer"),
        (nn.MaxPool2d(2), (2, 3, 9, 8), 1, "rule"),
        (LayerNorm2d(3), (2, 3, 9, 8), 1, "flow"),
    ],
)
def test_where_an_axis_is_known_from(layer, shape, axis, origin):
    model = Calls(lambda m, x: m.layer(m.conv(x) if origin == "flow" else x), layer=layer)
    model.conv = nn.Conv2d(3, 3, 1)
    with ts.capture(model, "layer") as run:
        model(images(*shape))
    (point,) = run.efficiency_layers
    assert (point.axis, point.axis_origin) == (axis, origin)
    assert point.attributes()["axis_origin"] == origin
    (row,) = str(run.report()).splitlines()[2:3]
    assert row.split()[1:3] == [str(axis), origin]


class HeadNorm(nn.Module):
    """A norm of each head, as in Qwen 3: neurons are also along the axis of the heads."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5))

    def forward(self, x):
        return x * x.pow(2).mean(-1, keepdim=True).rsqrt() * self.weight


def test_a_norm_of_heads_has_the_axis_that_fits_its_weights():
    model = Calls(lambda m, x: m.norm(m.q(x).view(2, 7, 4, 5)), q=nn.Linear(3, 20), norm=HeadNorm())
    with ts.capture(model, "norm") as run:
        model(images(2, 7, 3))
    (point,) = run.efficiency_layers
    assert (point.axis, point.axis_origin, point.neurons) == (3, "layer", 5)


def test_a_longer_clip_after_a_short_one():
    model = Calls(lambda m, x: m.conv(x), conv=nn.Conv1d(3, 8, 3))
    with ts.capture(model, "act") as run:
        model(images(2, 3, 100))
        model(images(2, 3, 250))
        model(images(3, 50))
    point = run["act_post_states"]
    assert (point.neurons, point.state_count) == (8, 2 * 98 + 2 * 248 + 48)
    assert point.instance_count == 5


def test_where_the_axis_is_lost_that_is_said():
    model = Calls(lambda m, x: torch.cdist(m.fc(x), m.fc(x)), **FC)
    with (
        pytest.warns(GuessedAxisWarning, match="act_post_states .lost at cdist"),
        ts.capture(model, "act") as run,
    ):
        model(images(2, 9, 4))  # of as many rows as neurons
    assert run["act_post_states"].axis_origin == "guess"
    assert " 2 guess " in str(run.report())


def test_a_view_in_place_is_named_as_the_cause():
    model = Calls(lambda m, x: m.fc(x).transpose_(1, 2), **FC)
    with (
        pytest.warns(GuessedAxisWarning, match="act_post_states .lost at transpose_"),
        ts.capture(model, "act") as run,
    ):
        model(images(2, 7, 4))
    assert run["act_post_states"].axis_origin == "guess"


def test_a_weight_for_each_position_is_no_norm():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(7))

        def forward(self, x):
            return torch.cdist(x, x[:, :5]) * self.scale[:, None]

    model = Calls(lambda m, x: m.pos(m.fc(x)), pos=Positions(), **FC)
    with pytest.warns(GuessedAxisWarning), ts.capture(model, "pos") as run:
        model(images(2, 7, 4))
    assert run["pos_post_states"].axis_origin == "guess"


def test_all_guesses_of_a_pass_are_one_warning_and_told_once():
    model = nn.Sequential(nn.ReLU(), nn.ReLU())
    with ts.capture(model, "ReLU"):
        with pytest.warns(GuessedAxisWarning) as warned:
            model(images(2, 3, 4))
        model(images(2, 3, 4))
    assert len(warned) == 1
    assert "0_post_states (" in str(warned[0].message)
    assert "1_post_states (" in str(warned[0].message)


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


# ---- which input a row belongs to ----------------------------------------------------------------


def rows_of_input(output, axis, batch):
    """The rows of each input: of an output with the inputs along ``batch``."""
    moved = output.detach().movedim(batch, 0)
    return [expected_rows(each[None], axis) for each in moved]


@pytest.mark.parametrize("batch_axis", [0, 1, -2])
def test_rows_go_to_their_input_in_sequence_first_models(batch_axis):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 9, 0.0, batch_first=batch_axis == 0)
    with ts.capture(layer, "linear1", batch_axis=batch_axis) as run:
        output: list[torch.Tensor] = []
        layer.linear1.register_forward_hook(lambda *seen: output.append(seen[2]))
        layer(images(3, 7, 4) if batch_axis == 0 else images(7, 3, 4))
    point = run["linear1_post_states"]
    assert (point.axis, point.neurons, point.instance_count) == (2, 9, 3)
    each = rows_of_input(output[0], 2, batch_axis % 3)
    np.testing.assert_array_equal(point.raw_states, np.concatenate(each))


def test_windows_belong_to_their_image():
    torch.manual_seed(0)
    model = Calls(windows, **FC)
    with ts.capture(model, "act") as run:
        output = model(images(2, 6, 8, 4))
        model(images(2, 6, 8, 4, seed=1))
    point = run["act_post_states"]
    assert (point.instance_count, point.states_per_instance()) == (4, 48)
    first = expected_rows(output.reshape(2, 48, 9)[:1])
    np.testing.assert_array_equal(point.raw_states[:48], first)


def test_inputs_that_lie_within_an_axis():
    """(windows * batch, ...), of which every second row belongs to an input."""
    model = Calls(lambda m, x: m.fc(x).transpose(0, 1).flatten(0, 1), **FC)
    with ts.capture(model, "act") as run:
        output = model(images(3, 7, 4))
        model(images(2, 7, 4))
    point = run["act_post_states"]
    assert (point.instance_count, point.states_per_instance()) == (5, 7)
    each = rows_of_input(output.reshape(7, 3, 9), 2, 1)
    np.testing.assert_array_equal(point.raw_states[:21], np.concatenate(each))
