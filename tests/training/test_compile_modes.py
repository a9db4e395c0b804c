"""Monitors of models that torch.compile compiles in any mode: counts are exact in each phase."""

import itertools

import pytest
import torch

import tensorstate_gpu as ts
from tests.support.samples import thinned
from tests.support.torch_models import ignores_torchscript
from tests.support.training_loops import batch, network, states_of

pytestmark = pytest.mark.usefixtures("nothing_compiled_before")

MODES = ("default", "reduce-overhead", "max-autotune-no-cudagraphs")
WAYS = [*itertools.product(MODES, [False, True], [None, True], ["sampled", "paused"])]
# A backend instead of a mode: it needs no C++ compiler, and makes as many graphs.
QUICK = [("aot_eager", True, True, "paused")]


def compiled(model, mode, **options):
    chosen = {"mode": mode} if mode in MODES else {"backend": mode}
    return torch.compile(model, **chosen, **options)


@ignores_torchscript
@pytest.mark.filterwarnings("ignore:Not enough SMs to use max_autotune_gemm mode")
@pytest.mark.parametrize(("mode", "fullgraph", "dynamic", "how"), thinned([*QUICK, *WAYS], QUICK))
def test_each_phase_has_the_batches_that_were_asked_for(mode, fullgraph, dynamic, how):
    model = network().requires_grad_(False)
    call = compiled(model, mode, fullgraph=fullgraph, dynamic=dynamic)
    monitor = ts.StateMonitor(model, "Linear", every_n_steps=3 if how == "sampled" else 1)
    asked = {"train": [], "eval": [], "test": []}

    def run(phase, *batches, wanted=True):
        for x in batches:
            call(x)
            asked[phase] += [x] if wanted else []

    for step in range(7):
        is_sampled = how == "paused" or step % 3 == 0
        run("train", batch(step), batch(step + 50, inputs=5), wanted=is_sampled)
        if how == "paused" and step % 2:
            with monitor.paused():
                run("train", batch(step + 100), wanted=False)
        monitor.step()
        if step in (2, 5):
            model.eval()
            with monitor.during("eval"):
                run("eval", batch(step + 200), batch(step + 300, inputs=5))
            with monitor.during("test"):
                run("test", batch(step + 400))
            model.train()
    monitor.remove()
    for phase, batches in asked.items():
        for layer in ("0", "2"):
            found = monitor.counts(layer, phase)
            assert found == states_of(model, *batches, layer=layer), (phase, layer)
