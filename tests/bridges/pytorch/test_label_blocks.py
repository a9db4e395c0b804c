"""Labels of all passes inside a block, whatever calls the model, and pauses."""

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.points import labels_of
from tests.support.torch_models import Autoencoder, images


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_all_passes_of_a_block_have_its_labels(keep):
    model = Autoencoder()
    with ts.capture(model, ["ReLU", "decoder"], keep=keep) as run:
        with run.labels([0, 1, 1]):
            for _ in range(3):  # as a loop that generates
                model(images(3, 4))
        with run.labels([2, 2]):
            model(images(2, 4))
    for point in run.values():
        assert labels_of(point) == {0: 3, 1: 6, 2: 2}


def test_labels_end_with_the_block_also_of_a_layer_that_is_called_twice():
    class Twice(Autoencoder):
        def forward(self, x):
            return self.encoder[1](super().forward(self.encoder[1](x)))

    model = Twice()
    with ts.capture(model, "ReLU") as run:
        for label in (1, 2):  # before the second block, all calls are known
            with run.labels([label] * 2):
                model(images(2, 4))
        model(images(2, 4))
    assert len(run) == 3
    for point in run.values():
        with pytest.raises(ts.errors.LabelsMissing, match="2 of 6 instances"):
            point.counts_by()


def test_a_part_of_the_model_alone():
    model = Autoencoder()
    with ts.capture(model, "ReLU") as run:
        with run.labels(["a", "b"]):
            model.encoder(images(2, 4))
        model.encoder(images(2, 4))
    assert run["encoder.1_post_states"].instance_count == 4
    with pytest.raises(ts.errors.LabelsMissing, match="2 of 4 instances"):
        run["encoder.1_post_states"].counts_by()


def fail(run, model):
    with run.labels([1, 1]):
        model(images(2, 4))
        raise ArithmeticError


def test_blocks_within_blocks_and_errors():
    model = Autoencoder()
    with ts.capture(model, "ReLU") as run:
        with run.labels([0, 0]):
            with pytest.raises(ArithmeticError):
                fail(run, model)
            model(images(2, 4))
        run.labels([2, 2])
        model(images(2, 4))
    assert labels_of(run["encoder.1_post_states"]) == {0: 2, 1: 2, 2: 2}


def test_labels_of_the_next_pass_end_where_a_block_begins():
    model = Autoencoder()
    with ts.capture(model, "ReLU") as run:
        run.labels([5, 5, 5])
        with run.labels([1, 1]):
            model(images(2, 4))
    assert labels_of(run["encoder.1_post_states"]) == {1: 2}


def test_labels_of_the_next_pass_in_a_block():
    """They hold for it, with what the block says besides; then those of the block again."""
    model = Autoencoder()
    with ts.capture(model, "ReLU") as run, run.labels([1, 1], units=[7, 8]):
        run.labels([2, 2])
        model(images(2, 4))
        model(images(2, 4))
    point = run["encoder.1_post_states"]
    assert labels_of(point) == {1: 2, 2: 2}
    assert point.units().tolist() == [7, 8, 7, 8]


def test_of_labels_of_the_run_and_of_a_layer_the_last_count():
    model = Autoencoder()
    with ts.capture(model, ["ReLU", "decoder"]) as run:
        run.labels([0, 0])
        run["decoder"].labels([1, 1])
        model(images(2, 4))
        run["decoder"].labels([3, 3])
        run.labels([2, 2])
        model(images(2, 4))
    assert [labels_of(point) for point in run.values()] == [{0: 2, 2: 2}, {1: 2, 2: 2}]
    with ts.capture(model, ["ReLU", "decoder"]) as run:
        run.labels([0, 0])
        run["decoder"].labels(None)
        model(images(2, 4))
    assert labels_of(run["encoder.1"]) == {0: 2}
    with pytest.raises(ts.errors.LabelsMissing, match="2 of 2 instances"):
        run["decoder"].counts_by()


@pytest.mark.parametrize("backend", [None, "eager"])
def test_later_calls_of_a_layer(backend):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.act, self.fc = nn.ReLU(), nn.Linear(4, 4)

        def forward(self, x):
            return self.act(self.fc(self.act(self.fc(x))))

    model = Twice()
    forward = torch.compile(model, backend=backend) if backend else model
    with ts.capture(model, "Linear") as run:
        with run.labels([0, 1]):
            forward(images(2, 4))
        with run.labels([2, 2]):
            forward(images(2, 4))
    assert [labels_of(point) for point in run.values()] == [{0: 1, 1: 1, 2: 2}] * 2


def test_a_call_of_a_layer_that_is_first_seen_in_a_pause_is_not_captured():
    layer = nn.ReLU()
    model = nn.Sequential(layer, nn.Linear(4, 4), layer)
    with ts.capture(model, "ReLU") as run:
        with run.paused():
            with run.paused():
                model(images(3, 4))
            model(images(3, 4))
        model(images(2, 4))
    assert [point.state_count for point in run.values()] == [2, 2]


def test_a_pause_ends_although_what_was_computed_in_it_has_failed():
    """For all layers, whichever of them waits for it."""

    def fail():
        raise ArithmeticError

    points = [ts.CapturePoint(name) for name in ("first", "second", "third")]
    run = ts.Run(points)
    with pytest.raises(ArithmeticError), run.paused():
        points[1].intake.add_barrier(fail)
    assert all(point.intake.is_open for point in points)


def test_nothing_is_captured_in_a_pause():
    model = Autoencoder()
    with ts.capture(model, ["ReLU", "decoder"]) as run:
        model(images(2, 4))
        with run.paused(), run.paused():
            model(images(3, 4))
        model(images(4, 4))
    assert run.instance_count == 6


def test_labels_after_the_end_of_a_capture_warn():
    model = nn.Linear(4, 3)
    with ts.capture(model) as run:
        model(images(2, 4))
    with pytest.warns(UserWarning, match=r"the capture has ended.*counts_by\(labels\) of") as told:
        run.labels([0, 1])
    assert told[0].filename == __file__
    assert [*run[0].counts_by([0, 1])] == [0, 1]
    run.labels(None)  # says nothing, and loses nothing
