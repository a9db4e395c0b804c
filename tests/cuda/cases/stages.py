"""Stages: captures that CUDA graphs record. Replays run nothing of the host's code."""

import gc
import weakref

import numpy as np
import pytest

import tensorstate_gpu as ts
from tests.cuda.cases.streams import assert_counts, packed
from tests.support.samples import thinned

torch = pytest.importorskip("torch")

ROWS = 12  # of a batch
SEEDS = range(30)
SAMPLE = range(2)


class Network(torch.nn.Module):
    """Layers without weights, so that these need not be on the device."""

    def __init__(self):
        super().__init__()
        self.whole, self.part = torch.nn.Identity(), torch.nn.Identity()

    def forward(self, x):
        return self.part(self.whole(x)[:, : x.shape[1] // 2] - 0.5)


class Recorded:
    """A captured model and a CUDA graph of it, recorded after a pass that does not count."""

    def __init__(self, on_cuda, new_graph, run, model, neurons, seed=0):
        self.random = np.random.default_rng(seed)
        self.neurons, self.on_cuda, self.rows = neurons, on_cuda, []
        self.x, self.graph = on_cuda(self.values()), new_graph()
        with torch.no_grad():
            with run.paused():
                model(self.x)
            with self.graph.recorded():
                model(self.x)

    def values(self):
        """A batch, in which states repeat."""
        distinct = np.random.default_rng(self.neurons).normal(size=(20, self.neurons))
        chosen = distinct[self.random.integers(0, 20, ROWS)]
        return torch.from_numpy(chosen.astype(np.float32))

    def replay(self, counts=True):
        """Replay the graph with another batch."""
        values = self.values()
        self.x.copy_(self.on_cuda(values))
        self.graph.replay()
        if counts:
            self.rows.append(values)

    def check(self, run):
        values = torch.cat(self.rows)
        half = values[:, : self.neurons // 2] - 0.5
        for point, expected in zip(run.values(), (values, half), strict=True):
            assert_counts(point.histogram(), packed(expected))
            if point.keep == "states":
                np.testing.assert_array_equal(point.raw_states, packed(expected))
        assert run.instance_count == len(values)


@pytest.mark.parametrize("seed", thinned(list(SEEDS), SAMPLE))
def test_replays_are_counted(on_cuda, new_graph, seed):
    """Programs by chance: replays on several streams, between them readings, pauses, sampling."""
    choose = np.random.default_rng(seed)
    keep, neurons = ("states", "counts")[seed % 2], (6, 20, 64, 100)[seed // 2 % 4]
    streams = [torch.cuda.current_stream(0), *(torch.cuda.Stream() for _ in range(2))]
    model, active = Network(), True
    with ts.capture(model, "Identity", keep=keep, stage_rows=10 * ROWS) as run:
        recorded = Recorded(on_cuda, new_graph, run, model, neurons, seed)
        for _ in range(choose.integers(5, 20)):
            with torch.cuda.stream(choose.choice(streams)):
                if choose.random() < 0.3:
                    active = not active
                    for point in run.values():
                        point.active = active
                for _ in range(choose.integers(1, 4)):
                    recorded.replay(active)
            with torch.cuda.stream(choose.choice(streams)):
                if choose.random() < 0.3:
                    with run.paused():
                        recorded.replay(False)
                elif choose.random() < 0.3 and recorded.rows:
                    recorded.check(run)
                else:
                    run.drain()
        recorded.check(run)


def test_the_host_does_not_wait_to_sample(on_cuda, new_graph):
    model = Network()
    with ts.capture(model, "Identity", stage_rows=100) as run:
        recorded = Recorded(on_cuda, new_graph, run, model, 20)
        points = list(run.values())
        torch.cuda.synchronize()
        for step in range(6):
            for point in points:
                point.active = step % 2 == 0
            recorded.replay(step % 2 == 0)
        recorded.check(run)


def test_labels_of_replays(on_cuda, new_graph):
    model, labels = Network(), on_cuda(torch.zeros(ROWS, dtype=torch.int64))
    expected = {0: [], 1: [], 2: []}
    with ts.capture(model, "Identity", keep="counts", stage_rows=1000) as run:
        run.static_labels(labels)
        recorded = Recorded(on_cuda, new_graph, run, model, 20)
        for step in range(5):
            now = (torch.arange(ROWS) + step) % 3
            labels.copy_(on_cuda(now))
            recorded.replay()
            for label, parts in expected.items():
                parts.append(packed(recorded.rows[-1][now == label]))
        for label, counts in run["whole"].counts_by().items():
            assert_counts(counts, np.concatenate(expected[label]))


def test_what_replays_lose_is_told(on_cuda, new_graph):
    model = Network()
    with ts.capture(model, "Identity", stage_rows=3 * ROWS) as run:
        recorded = Recorded(on_cuda, new_graph, run, model, 20)
        for _ in range(5):
            recorded.replay()
        with pytest.raises(ts.errors.RowsLost, match=f"{2 * ROWS} rows have found no room"):
            run["whole"].histogram()
        run.reset()
        recorded.rows.clear()
        recorded.replay()
        recorded.check(run)


def test_a_graph_is_recorded_after_a_first_pass(on_cuda, new_graph):
    model, x = Network(), on_cuda(torch.randn(ROWS, 20))
    with ts.capture(model, "Identity", stage_rows=100) as run:
        refused = pytest.raises(ts.errors.NotCapturable, match="run the model once before")
        with new_graph().recorded(), refused:
            model(x)
        recorded = Recorded(on_cuda, new_graph, run, model, 20)
        recorded.replay()
        recorded.check(run)


def test_nothing_is_read_while_a_graph_is_recorded(on_cuda, new_graph):
    model = Network()
    with ts.capture(model, "Identity", stage_rows=100) as run:
        recorded = Recorded(on_cuda, new_graph, run, model, 20)
        recorded.replay()
        with new_graph().recorded(), pytest.raises(ts.errors.NotCapturable, match="cannot be read"):
            run["whole"].histogram()
        recorded.check(run)


def test_stages_live_as_long_as_the_layers_whose_graph_writes_into_them(on_cuda, new_graph):
    model = Network()
    with ts.capture(model, "Identity", stage_rows=100) as run:
        recorded = Recorded(on_cuda, new_graph, run, model, 20)
        memory = [weakref.ref(point._stage) for point in run.values()]
    recorded.replay()  # as a program may that goes on after the capture
    recorded.check_nothing = run["whole"]._find_accumulator()
    assert recorded.check_nothing is None
    del run, recorded.check_nothing
    gc.collect()
    assert all(stage() is not None for stage in memory)
    recorded.replay()
    torch.cuda.synchronize()
    del model, recorded
    gc.collect()
    assert all(stage() is None for stage in memory)


def test_stages_that_no_graph_knows_end_with_their_capture(on_cuda):
    model = Network()
    with ts.capture(model, "Identity", stage_rows=100) as run:
        model(on_cuda(torch.randn(ROWS, 20)))
        memory = [weakref.ref(point._stage) for point in run.values()]
    del run
    gc.collect()
    assert all(stage() is None for stage in memory)
