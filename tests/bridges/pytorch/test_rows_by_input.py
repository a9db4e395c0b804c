"""Which model input a row belongs to, followed from the inputs: windows, sequences first."""

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.followed_models import Calls, windows
from tests.support.torch_models import expected_rows, images

FC = {"fc": nn.Linear(4, 9)}


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


def test_columns_of_images_of_other_sizes_belong_to_their_image():
    """What was followed are the sizes of the first images."""

    def function(m, x):
        return m.over_frames(m.conv(x).permute(0, 2, 3, 1, 4).flatten(0, 2))

    model = Calls(function, conv=nn.Conv3d(2, 3, 1), over_frames=nn.Conv1d(3, 4, 1))
    with ts.capture(model, "over_frames") as run:
        for inputs, height, width in ((2, 5, 6), (3, 7, 4)):
            with run.labels(range(inputs)):
                model(images(inputs, 2, height, width, 3))
    totals = {label: counts.total for label, counts in run["over_frames"].counts_by().items()}
    assert totals == {0: 90 + 84, 1: 90 + 84, 2: 84}


def test_spectra_and_what_is_made_of_them_belong_to_their_sound():
    window = torch.hann_window(16)

    def function(m, x):
        spectra = torch.stft(x, 16, window=window, return_complex=True)
        spectra = spectra * m.mask(spectra.abs())
        return m.fc(torch.istft(spectra, 16, window=window)[:, :, None])

    model = Calls(function, mask=nn.Conv1d(9, 9, 1), fc=nn.Linear(1, 2))
    with ts.capture(model, ["mask", "fc"]) as run, run.labels(range(3)):
        model(images(3, 64))
    for name, rows in (("mask", 17), ("fc", 64)):
        totals = {label: counts.total for label, counts in run[name].counts_by().items()}
        assert totals == dict.fromkeys(range(3), rows)


def test_codes_of_a_codebook_belong_to_the_input_that_they_stand_for():
    def function(m, x):
        codes = torch.cdist(m.fc(x).flatten(0, 1), m.codebook.weight).argmin(1)
        return m.last(m.codebook(codes.view(x.shape[:2])))

    model = Calls(function, fc=nn.Linear(4, 5), codebook=nn.Embedding(9, 5), last=nn.Linear(5, 2))
    with ts.capture(model, ["codebook", "last"]) as run, run.labels(range(3)):
        model(images(3, 7, 4))
    for point in run.values():
        totals = {label: counts.total for label, counts in point.counts_by().items()}
        assert totals == {0: 7, 1: 7, 2: 7}


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


class Detector(nn.Module):
    """Takes images of different sizes, in a list."""

    def __init__(self, into_batch):
        super().__init__()
        self.into_batch, self.conv, self.act = into_batch, nn.Conv2d(3, 4, 3), nn.ReLU()
        self.head = nn.Linear(4, 2)

    def forward(self, listed):
        batch = self.into_batch([(image - 1) / 2 for image in listed])
        return self.head(self.act(self.conv(batch)).mean((2, 3)))


def written_by_index(listed):
    batch = listed[0].new_zeros(len(listed), 3, 8, 8)
    for i in range(len(listed)):
        batch[i, :, : listed[i].shape[1], : listed[i].shape[2]].copy_(listed[i])
    return batch


def written_by_row(listed):
    batch = torch.zeros(len(listed), 3, 8, 8)
    for image, row in zip(listed, batch, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    return batch


def resized(listed):
    return torch.stack([nn.functional.interpolate(image[None], (8, 8))[0] for image in listed])


def joined(listed):
    return torch.cat([nn.functional.interpolate(image[None], (8, 8)) for image in listed])


@pytest.mark.parametrize("into_batch", [written_by_index, written_by_row, resized, joined])
def test_images_in_a_list_are_the_inputs(into_batch):
    model = Detector(into_batch)
    listed = [images(3, 8, 8), images(3, 6, 7), images(3, 7, 8)]
    with ts.capture(model, ["conv", "act", "head"]) as run:
        for labels in ([0, 1, 2], [3, 3, 4]):
            with run.labels(labels):
                model(listed)
    assert run.instance_count == 6
    for name, each in (("conv", 36), ("act", 36), ("head", 1)):
        counts = run[name].counts_by()
        found = {label: histogram.total for label, histogram in counts.items()}
        assert found == {0: each, 1: each, 2: each, 3: 2 * each, 4: each}


def test_images_of_a_list_in_another_order_have_no_labels():
    model = Detector(lambda listed: resized(listed[::-1]))
    with ts.capture(model, "conv") as run, run.labels([0, 1]):
        model([images(3, 8, 8), images(3, 6, 7)])
    with pytest.raises(ts.errors.InputsUnknown):
        run["conv"].counts_by()


def rows_in_another_order(listed):
    batch = torch.zeros(len(listed), 3, 8, 8)
    for i in range(len(listed)):
        batch[-1 - i] = listed[i]
    return batch


def one_row_only(listed):
    batch = torch.zeros(len(listed), 3, 8, 8)
    batch[0] = listed[0]
    return batch


def channels_of_a_batch(listed):
    batch = torch.zeros(3, len(listed), 8, 8)
    for image, channel in zip(listed, batch.unbind(1), strict=True):
        channel.copy_(image)
    return batch


@pytest.mark.parametrize(
    "into_batch",
    [
        rows_in_another_order,
        one_row_only,
        channels_of_a_batch,
        lambda listed: torch.stack(listed, 1),
        lambda listed: torch.stack([listed[0] + listed[1], *listed[1:]]),
    ],
)
def test_batches_whose_rows_are_not_the_images_of_the_list_have_no_labels(into_batch):
    model = Detector(lambda listed: into_batch([image + 0 for image in listed]))
    with ts.capture(model, "conv") as run, run.labels([0, 1, 2]):
        model([images(3, 8, 8, seed=seed) for seed in range(3)])
    with pytest.raises(ts.errors.InputsUnknown):
        run["conv"].counts_by()


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN, nn.MultiheadAttention])
@pytest.mark.parametrize("captured", ["fc", "layer"])
def test_steps_are_not_taken_for_inputs_without_a_word(kind, captured):
    def last(model, x):
        return model.fc(model.layer(*([x] * 3 if kind is nn.MultiheadAttention else [x]))[0][-1])

    layer = kind(4, 2) if kind is nn.MultiheadAttention else kind(4, 4)
    model = Calls(last, layer=layer, fc=nn.Linear(4, 3))
    warns = pytest.warns(ts.errors.BatchAxisWarning, match="axis 0.*batch_axis=1 sets it")
    with warns as told, ts.capture(model, captured):
        for _ in range(2):
            model(images(7, 3, 4))
    assert len(told) == 1
    with ts.capture(model, captured, batch_axis=1) as run, run.labels([0, 1, 1]):
        model(images(7, 3, 4))
    assert run.instance_count == 3
    rows = {"fc": 1, "layer": 7}[captured]
    assert {label: c.total for label, c in run[captured].counts_by().items()} == {
        0: rows,
        1: 2 * rows,
    }


LAYERS_OF_ONE_SEQUENCE = {
    "lstm": nn.LSTM(4, 5),
    "gru": nn.GRU(4, 5, batch_first=True),
    "transformer": nn.TransformerEncoderLayer(4, 2, 8),
}


@pytest.mark.parametrize("name", LAYERS_OF_ONE_SEQUENCE)
def test_one_sequence_without_a_batch_axis_is_one_input(name):
    with ts.capture(LAYERS_OF_ONE_SEQUENCE[name], "*", exclude="*out_proj") as run:
        for steps in (7, 5):
            with run.labels([steps]):
                LAYERS_OF_ONE_SEQUENCE[name](images(steps, 4))
    assert run.instance_count == 2
    for point in run.values():
        assert {label: each.total for label, each in point.counts_by().items()} == {7: 7, 5: 5}


@pytest.mark.parametrize("name", LAYERS_OF_ONE_SEQUENCE)
def test_steps_of_one_sequence_that_count_as_inputs_are_told(name):
    """Layers before the one that shows it have taken them for inputs."""
    model = nn.Sequential(nn.Linear(4, 4), LAYERS_OF_ONE_SEQUENCE[name])
    warns = pytest.warns(ts.errors.BatchAxisWarning, match=r"each of its steps \(axis 0\) counts")
    with warns as told, ts.capture(model, "0") as run:
        for _ in range(2):
            model(images(7, 4))
    assert len(told) == 1
    assert run.instance_count == 14


def test_steps_of_one_sequence_may_be_inputs():
    """Words of a sentence, in a batch of one, or as an attention that looks at all inputs."""
    model = Calls(
        lambda m, x: m.attention(*[x[None]] * 3)[0][0] + m.lstm(x[:, None])[0][:, 0],
        attention=nn.MultiheadAttention(4, 2, batch_first=True),
        lstm=nn.LSTM(4, 4),
    )
    with ts.capture(model, "act") as run:
        model(images(7, 4))
    assert run.instance_count == 7
