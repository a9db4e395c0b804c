"""Compiled functions that attach captures, pause and label them, and read measures themselves."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import tensorstate_gpu as ts
from tests.support.samples import thinned
from tests.support.torch_models import images


@pytest.fixture(autouse=True)
def new_graphs():
    torch._dynamo.reset()
    with torch.no_grad():
        yield


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 9))


def batches():
    return [images(5, 6, seed=seed) for seed in range(3)]


def captures(model, x):
    with ts.capture(model, "Linear") as run:
        model(x)
    return run[0].entropy(), run["2"].efficiency()


def builds(model, x):
    model = ts.build_efficiency_model(model, "Linear")
    model(x)
    found = [point.entropy() for point in model.efficiency_layers]
    ts.remove_state_layers(model)
    return found


def monitors(model, x):
    monitor = ts.StateMonitor(model, "Linear", every_n_steps=1)
    model(x)
    monitor.step()
    with monitor.paused():
        model(x)
    with monitor.during("test"):
        model(2 * x)
    monitor.remove()
    return [(monitor.global_step, monitor.counts("0", phase).total) for phase in ("train", "test")]


@pytest.mark.parametrize("function", thinned([captures, builds, monitors], [captures, monitors]))
def test_a_compiled_function_attaches_and_reads(function):
    plain, compiled = network(), network()
    call = torch.compile(function, backend="eager")
    expected = [function(plain, x) for x in batches()]
    assert [call(compiled, x) for x in batches()] == expected


def pauses(model, x, run):
    with run.paused():
        model(x)
    return model(x)


def switches(model, x, run):
    run["0"].capture_on = False
    passed = model(x)
    run["0"].capture_on = True
    return passed


def labels(model, x, run):
    with run.labels(["a", "b", "a", "b", "c"]):
        return model(x)


def reads(model, x, run):
    model(x)
    with run.labels([3] * 5):
        model(-x)
    return str(run.report()), str(run["2"].estimate()), run[0].histogram(slice(0, 4)).entropy()


USES = [pauses, switches, labels, reads]


@pytest.mark.parametrize("function", thinned(USES, [pauses, reads]))
def test_a_compiled_function_uses_a_run(function):
    """The same is captured, and the same numbers are read, as without torch.compile."""
    found = []
    for how in (lambda given: given, lambda given: torch.compile(given, backend="eager")):
        model, call = network(), how(function)
        with ts.capture(model, "Linear") as run:
            read = [call(model, x, run) for x in batches()]
        counts = {name: point.state_count for name, point in run.items()}
        by_label = run["2"].counts_by() if function is labels else None
        found.append((read if function is reads else None, counts, by_label))
    assert found[0] == found[1]


PAUSED = """
import sys, torch
import tensorstate_gpu as ts

model = torch.nn.Linear(6, 12)
with ts.capture(model) as run:
    assert "torch._dynamo" not in sys.modules

    @torch.compile(backend="eager")
    def step(x):
        with run.paused():
            model(x)
        return model(x)

    for _ in range(3):
        step(torch.ones(4, 6))
print(run.instance_count)
"""


@pytest.mark.long
def test_a_program_that_compiles_first_within_a_capture():
    command = [sys.executable, "-W", "ignore", "-c", PAUSED]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "12\n"


def test_a_capture_beside_a_graph_whose_code_has_no_hash():
    """Of a function that makes another one and ends its graph before it calls it."""
    model = network()

    @torch.compile(backend="eager")
    def step(x):
        double = lambda y: 2 * y  # noqa: E731
        torch._dynamo.graph_break()
        return double(model(x))

    step(images(5, 6))
    with ts.capture(model, "Linear") as run:
        step(images(5, 6))
    assert run.instance_count == 5
