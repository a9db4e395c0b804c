"""Packed sequences: their rows are captured, and belong to the inputs that they tell."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import tensorstate_gpu as ts
from tests.support.torch_models import images

LENGTHS = torch.tensor([3, 7, 2, 5])


class Reader(nn.Module):
    """An LSTM or GRU over packed sequences, and a head on the last states."""

    def __init__(self, kind=nn.LSTM, **options):
        super().__init__()
        torch.manual_seed(0)
        self.project = nn.Linear(4, 5)
        self.rnn, self.each, self.head = kind(5, 6, **options), nn.Linear(6, 3), nn.Linear(6, 2)

    def forward(self, x, lengths, is_sorted=False):
        first = self.rnn.batch_first
        packed = pack_padded_sequence(self.project(x), lengths, first, enforce_sorted=is_sorted)
        out, last = self.rnn(packed)
        padded, _ = pad_packed_sequence(out, batch_first=first)
        return self.each(padded), self.head(last[0][-1] if isinstance(last, tuple) else last[-1])


def one_by_one(model, x, lengths):
    axis = 0 if model.rnn.batch_first else 1
    with ts.capture(model, ["rnn", "head"], batch_axis=axis) as run:
        for each, length in zip(x, lengths, strict=True):
            part = each[None, :length] if model.rnn.batch_first else each[:length, None]
            model(part, length[None])
    return run


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("is_sorted", [True, False])
def test_rows_belong_to_the_inputs(kind, batch_first, is_sorted):
    model = Reader(kind, batch_first=batch_first)
    for lengths in (LENGTHS, LENGTHS[[3, 0, 1, 2]]):  # of the second pass, which is not followed
        lengths = lengths.sort(descending=True)[0] if is_sorted else lengths
        x = images(4, 7, 4)
        expected = one_by_one(model, x, lengths)
        given = x if batch_first else x.transpose(0, 1)
        axis = 0 if batch_first else 1
        with ts.capture(model, ["rnn", "head", "each"], batch_axis=axis) as run:
            for _ in range(2):
                with run.labels([0, 1, 2, 3]):
                    model(given, lengths, is_sorted)
        assert run["rnn_post_states"].snapshot()[1].batches == 2 * tuple(
            (1, int(length)) for length in lengths
        )
        for name in ("rnn_post_states", "head_post_states"):
            by_label = run[name].counts_by()
            for index in range(4):
                assert by_label[index].state_ids() == expected[name].histogram([index]).state_ids()
                assert by_label[index].total == 2 * expected[name].histogram([index]).total
        assert {c.total for c in run["each_post_states"].counts_by().values()} == {14}


class SortedByHand(Reader):
    def forward(self, x, lengths):
        order = lengths.argsort(descending=True)
        return super().forward(x[order], lengths[order], True)


def test_sequences_that_were_sorted_before_have_no_labels():
    model = SortedByHand(batch_first=True)
    with ts.capture(model, ["rnn", "head"]) as run, run.labels([0, 1, 2, 3]):
        model(images(4, 7, 4), LENGTHS)
    assert (run["rnn_post_states"].state_count, run.instance_count) == (17, 4)
    for point in run.values():
        with pytest.raises(ts.errors.InputsUnknown, match="belong to no known input"):
            point.counts_by()
