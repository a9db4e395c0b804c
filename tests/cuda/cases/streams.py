"""Programs by chance: batches on many streams, written late, overwritten at once, read at times."""

import random

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import testing as oracle
from tensorstate_gpu.cuda import small_batches
from tests.support.samples import thinned

torch = pytest.importorskip("torch")

SEEDS = 200
SAMPLE = 12
LATE = 1_000_000  # clock cycles, after which a batch is written: half a millisecond


class Program:
    """A layer whose output is captured, and what must have been captured."""

    def __init__(self, seed, on_cuda):
        self.random, self.on_cuda = random.Random(seed), on_cuda
        self.numbers = torch.Generator().manual_seed(seed)
        choose = self.random.choice
        self.neurons, self.keep = choose([5, 20, 64, 100]), choose(["states", "counts"])
        self.labelled = choose([True, False])
        self.maps = choose([True, False])
        self.layer = torch.nn.Identity()
        self.hook = ts.StateCaptureHook("layer", keep=self.keep, neuron_axis=1)
        self.hook.attach(self.layer)
        self.rows, self.labels = [], []
        self.streams = [torch.cuda.current_stream(0), *(torch.cuda.Stream() for _ in range(3))]

    def run(self):
        for _ in range(self.random.randrange(3, 9)):
            self.step()
            if self.random.random() < 0.2:
                with torch.cuda.stream(self.random.choice(self.streams)):
                    self.check()
        with torch.cuda.stream(self.random.choice(self.streams)):
            self.check()

    def step(self):
        """Capture a batch that is written late, and overwritten right after the call."""
        values = self.batch()
        rows = packed(values)
        labels = [self.random.randrange(3) for _ in values]
        with torch.cuda.stream(self.random.choice(self.streams)):
            x = written_late(self.on_cuda, values)
            if self.labelled:
                self.hook.labels(labels)
            self.layer(x)
            if self.random.random() < 0.3:
                self.check_functions(x, rows)
            x.fill_(float("nan"))
        self.rows.append(rows)
        self.labels.append(np.repeat(labels, len(rows) // len(labels)))

    def batch(self):
        number = self.random.choice([3, 40, 400, 1000])
        shape = (number // 3, self.neurons, 1, 3) if self.maps else (number, self.neurons)
        distinct = torch.randn(self.random.choice([3, 30, 300]), *shape[1:], generator=self.numbers)
        return distinct[torch.randint(0, len(distinct), shape[:1], generator=self.numbers)]

    def check_functions(self, x, rows):
        """The array functions, one after the other on this stream."""
        found = ts.compress_states(x, neuron_axis=1)
        counts, ones = ts.count_states(found), ts.popcount(found)
        bools = ts.decompress_states(found, self.neurons)
        edges, order = ts.sort_states(found)
        assert_counts(counts, rows)
        unpacked = oracle.decompress(rows, self.neurons)
        for result, expected in (
            (found, rows),
            (ones, unpacked.sum(axis=1)),
            (bools, unpacked),
            (edges, oracle.sort(rows)[0]),
            (order, oracle.sort(rows)[1]),
        ):
            np.testing.assert_array_equal(result.cpu().numpy(), expected)

    def check(self):
        rows = np.concatenate(self.rows)
        assert_counts(self.hook.histogram(), rows)
        if self.keep == "states":
            np.testing.assert_array_equal(self.hook.raw_states, rows)
        if self.labelled:
            labels = np.concatenate(self.labels)
            found = self.hook.counts_by()
            assert list(found) == sorted({*labels})
            for label, counts in found.items():
                assert_counts(counts, rows[labels == label])


def packed(values):
    """The rows of a batch whose neurons are on axis 1."""
    return ts.compress_states(values.numpy(), neuron_axis=1)


def assert_counts(found, rows):
    distinct, counts = oracle.count(rows)
    np.testing.assert_array_equal(found.packed, distinct)
    np.testing.assert_array_equal(found.counts, counts)


@pytest.mark.parametrize("seed", range(8))
def test_results_live_until_the_streams_that_torch_was_told_of_have_read_them(on_cuda, seed):
    values = torch.randn(1000, 64, generator=torch.Generator().manual_seed(seed))
    x, other = on_cuda(values), torch.cuda.Stream()
    result = ts.compress_states(x)
    other.wait_stream(torch.cuda.current_stream(0))
    with torch.cuda.stream(other):
        torch.cuda._sleep(LATE)
        read = ts.decompress_states(result, 64)
    result.record_stream(other)
    del result
    overwritten = ts.compress_states(on_cuda(torch.ones(1000, 64)))
    torch.cuda.synchronize()
    np.testing.assert_array_equal(read.cpu().numpy(), values.numpy() > 0)
    del overwritten


class Breaking(torch.nn.Module):
    """Two layers, between which a pass may fail."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.fails = torch.nn.Identity(), torch.nn.Identity(), False

    def forward(self, x):
        x = self.first(x)
        if self.fails:
            raise ZeroDivisionError
        return self.second(x)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("keep", ["states", "counts"])
def test_a_pass_that_fails_on_another_stream_is_taken_back(on_cuda, keep, seed):
    """Its batch is still on its way when the capture ends with the exception."""
    model, rows, numbers = Breaking(), [], torch.Generator().manual_seed(seed)
    points = []

    def pass_four():
        with ts.capture(model, "Identity", keep=keep, neuron_axis=1) as run:
            points.extend(run.values())
            for step in range(4):
                rows.append(torch.randn(50, 20, generator=numbers))
                model.fails = step == 3
                with torch.cuda.stream(torch.cuda.Stream()):
                    model(written_late(on_cuda, rows[-1]))

    with pytest.raises(ZeroDivisionError):
        pass_four()
    for point in points:
        assert_counts(point.histogram(), packed(torch.cat(rows[:-1])))


def written_late(on_cuda, values):
    x = torch.full_like(on_cuda(values), float("nan"))
    torch.cuda._sleep(LATE)
    x.copy_(on_cuda(values))
    return x


@pytest.mark.parametrize("seed", thinned(list(range(SEEDS)), range(SAMPLE)))
def test_programs(on_cuda, seed, monkeypatch):
    monkeypatch.setattr(small_batches, "MOST_BATCHES", (1, 2, 8)[seed % 3])
    Program(seed, on_cuda).run()
