"""Masks keep rows of padding out, where the positions of a layer are followed."""

import importlib.util
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.torch_models import images

LENGTHS = [3, 20, 5, 4]
MASK = torch.arange(20) < torch.tensor(LENGTHS)[:, None]


def encoder(batch_first=True):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=batch_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()


def one_by_one(model, x, lengths=LENGTHS):
    """A capture of the inputs without their padding."""
    with torch.no_grad(), ts.capture(model, ["Linear", "LayerNorm"]) as run:
        for each, length in zip(x, lengths, strict=True):
            model(each[None, :length])
    return run


def assert_same(run, expected):
    for name, point in run.items():
        assert point.histogram() == expected[name].histogram()
        for index in range(len(LENGTHS)):
            assert point.histogram([index]) == expected[name].histogram([index])


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_an_encoder_has_no_states_of_padding(keep):
    model, x = encoder(), images(4, 20, 8)
    expected = one_by_one(model, x)
    with torch.no_grad(), ts.capture(model, ["Linear", "LayerNorm"], keep=keep) as run:
        for _ in range(2):  # the second pass is not followed
            with run.labels(list("abcd"), mask=MASK):
                model(x, src_key_padding_mask=~MASK)
    assert {point.state_count for point in run.values()} == {64}
    for name, point in run.items():
        by_label = point.counts_by()
        for index, label in enumerate("abcd"):
            once = expected[name].histogram([index])
            assert by_label[label].state_ids() == once.state_ids()
            np.testing.assert_array_equal(by_label[label].counts, 2 * once.counts)


def test_a_mask_alone_and_masks_of_other_sizes():
    model, x = encoder(), images(4, 20, 8)
    with torch.no_grad(), ts.capture(model, ["Linear", "LayerNorm"]) as run:
        with run.labels(mask=MASK):
            model(x, src_key_padding_mask=~MASK)
        with run.labels(mask=MASK[:2, :9].numpy().astype(int)):
            model(x[:2, :9], src_key_padding_mask=~MASK[:2, :9])
        model(x)  # without a mask
    assert {point.state_count for point in run.values()} == {32 + 12 + 80}
    assert run.instance_count == 10


def test_inputs_along_the_second_axis():
    model, x = encoder(batch_first=False), images(4, 20, 8)
    kinds = ["Linear", "LayerNorm"]
    with torch.no_grad(), ts.capture(model, kinds, batch_axis=1) as run, run.labels(mask=MASK):
        model(x.transpose(0, 1), src_key_padding_mask=~MASK)
    assert_same(run, one_by_one(encoder(), x))


class Tagger(nn.Module):
    """Tokens are flattened with their inputs, and then pooled."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.token, self.pooled, self.shorter = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 2)

    def forward(self, ids, mask=None):
        token = self.token(ids.reshape(-1, 4)).view(*ids.shape[:2], 6)
        return self.pooled(token.mean(1)), self.shorter(token[:, ::2])


@pytest.mark.parametrize("way", ["positional", "keyword"])
def test_an_argument_of_the_model_is_the_mask(way):
    model, x = Tagger(), images(4, 20, 4)
    with ts.capture(model, "token", mask="mask") as run:
        model(x, MASK.long()) if way == "positional" else model(mask=MASK, ids=x)
        model(x)  # has none
    assert run["token_post_states"].snapshot()[1].batches == (
        *((1, length) for length in LENGTHS),
        (4, 20),
    )


class Wrapped(nn.Module):
    """A model that passes further arguments on, so that any name may be one of them."""

    def __init__(self):
        super().__init__()
        self.model = Tagger()

    def forward(self, ids, **others):
        return self.model(ids, **others)


def test_a_mask_among_further_arguments():
    model, x = Wrapped(), images(4, 20, 4)
    with warnings.catch_warnings(), ts.capture(model, "model.token", mask="mask") as run:
        warnings.simplefilter("error")
        model(x, mask=MASK)
    assert run[0].state_count == sum(LENGTHS)


def test_a_name_that_no_argument_has_is_told_once_where_it_may_be_a_further_one():
    model, x = Wrapped(), images(4, 20, 4)
    with ts.capture(model, "model.token", mask="attention_mask") as run:
        with pytest.warns(ts.errors.UnmaskedLayerWarning) as told:
            model(x, mask=MASK)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model(x, mask=MASK)
            model.model(x, MASK)  # a part of it, whose arguments are others
            with run.labels(mask=MASK):
                model(x)
    (warning,) = told
    assert "Wrapped (which has no argument 'attention_mask'; there are ids)" in str(warning.message)
    assert run[0].state_count == 3 * 80 + sum(LENGTHS)


def test_layers_that_a_mask_does_not_apply_to_are_named_once():
    model, x = Tagger(), images(4, 20, 4)
    with ts.capture(model, "Linear", mask="mask") as run:
        with pytest.warns(ts.errors.UnmaskedLayerWarning) as told:
            model(x, MASK)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model(x, MASK)
    (warning,) = told
    text = str(warning.message)
    assert "pooled_post_states (its positions were not followed)" in text
    assert "shorter_post_states (its positions were not followed)" in text
    assert "token" not in text
    assert [point.state_count for point in run.values()] == [64, 8, 80]


def test_positions_of_another_number_keep_their_rows():
    model = Tagger()
    with ts.capture(model, "token", mask="mask") as run:
        model(images(4, 20, 4), MASK)
        with pytest.warns(ts.errors.UnmaskedLayerWarning, match="it has 7 positions, the mask 20"):
            model(images(4, 7, 4), MASK)  # as a step of a generating loop, whose mask is longer
    assert run["token_post_states"].state_count == 32 + 28


def test_rows_of_no_known_input_or_position_stay():
    class Shuffled(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = (nn.Linear(4, 4) for _ in range(3))

        def forward(self, x):
            return self.one(x[:, torch.randperm(20)]), self.two(x.flip(1)), self.three(x.flip(0))

    model = Shuffled()
    with (
        ts.capture(model, "Linear") as run,
        run.labels(mask=MASK),
        pytest.warns(ts.errors.UnmaskedLayerWarning) as told,
    ):
        model(images(4, 20, 4))
    assert [point.state_count for point in run.values()] == [80, 80, 80]
    for cause in ("one_post_states (its pos", "two_post_states (its pos", "three_post_states (inp"):
        assert cause in str(told[0].message)


def test_what_is_no_mask_is_refused():
    model = Tagger()
    with pytest.raises(ValueError, match="Tagger has no argument 'attention_mask'; there are ids,"):
        ts.capture(model, "token", mask="attention_mask").__enter__()
    with pytest.raises(TypeError, match=r"mask must name an argument of the model, .* got Tensor"):
        ts.capture(model, "token", mask=MASK).__enter__()
    with ts.capture(model, "token") as run:
        with pytest.raises(
            ValueError, match=r"mask must be 2-D, \(inputs, positions\), got \(4,\)"
        ):
            run.labels(mask=[1, 1, 0, 1])
        with pytest.raises(TypeError, match="mask must be of bools or numbers"):
            run.labels(mask=[["a"]])
        with pytest.raises(ValueError, match=r"must be for the same inputs, got \[2, 4\]"):
            run.labels([0, 1], mask=MASK)
    with pytest.raises(ValueError, match="when= and mask= are about the passes of a model"):
        ts.StateCaptureHook("by hand", mask="mask").attach(model.token)
    assert not model._forward_pre_hooks


@pytest.mark.filterwarnings("ignore")  # of transformers
def test_four_sentences_for_bert_have_32_states():
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed: pip install --group study -c constraints.txt")
    from benchmarks.studies.neuron_axes.torchvision_models import import_torchvision

    import_torchvision()
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = BertModel(BertConfig(vocab_size=50, intermediate_size=24, **sizes)).eval()
    ids = torch.randint(1, 50, (4, 20)) * MASK
    for mask, states in ((None, 80), ("attention_mask", 32)):
        with torch.no_grad(), ts.capture(model, "encoder.layer.*", mask=mask) as run:
            model(ids, attention_mask=MASK.long())
        counts = {point.state_count for point in run.values() if point.state_count}
        assert counts == {states}
    with torch.no_grad(), ts.capture(model, "encoder.layer.*") as expected:
        for each, length in zip(ids, LENGTHS, strict=True):
            model(each[None, :length])
    assert {point.state_count for point in expected.values() if point.state_count} == {32}
