"""Where nothing is known of neurons any more, their axis is a guess, and a warning says so."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import tensorstate_gpu as ts
from tests.support.followed_models import Calls
from tests.support.torch_models import images

GuessedAxisWarning = ts.errors.GuessedAxisWarning


FLAT = {
    "flatten": lambda m, x: m.fc(x).flatten(),
    "view": lambda m, x: m.fc(x).view(-1),
    "transposed": lambda m, x: m.fc(x).transpose(0, 1).reshape(-1),
    "sorted": lambda m, x: m.fc(x).sort(-1)[0].flatten(),
}


@pytest.mark.parametrize("how", FLAT)
@pytest.mark.parametrize("sizes", [(4,), (3, 4)])
def test_several_neurons_along_one_axis_with_all_else_are_not_one(how, sizes):
    model = Calls(FLAT[how], fc=nn.Linear(4, 2))
    warns = pytest.warns(GuessedAxisWarning, match="act_post_states .lost at")
    with warns, ts.capture(model, "act") as run:
        model(images(3, *sizes))
    assert (run["act"].axis_origin, run["act"].axis) == ("guess", 0)


TABLES = {
    "one column": (lambda m, x: m.fc(x).view(-1, 1), "lost at view"),
    "heads": (lambda m, x: m.fc(x).view(-1, 3), "axes 0, 1 hold parts of them"),
    "a function of weights": (lambda m, x: torch.inner(m.fc.weight, x), "lost at inner"),
}


@pytest.mark.parametrize("how", TABLES)
def test_a_table_of_which_neurons_are_along_the_first_axis_is_a_guess(how):
    """It is none of inputs and features, nor is its only column one neuron."""
    function, cause = TABLES[how]
    model = Calls(function, fc=nn.Linear(4, 6))
    warns = pytest.warns(GuessedAxisWarning, match=f"act_post_states .{cause}")
    with warns, ts.capture(model, "act") as run:
        model(images(3, 4))
    assert (run["act"].axis_origin, run["act"].axis) == ("guess", 1)


@pytest.mark.usefixtures("nothing_compiled_before")
def test_what_is_checkpointed_in_a_compiled_graph_is_a_guess_and_no_pass_fails_for_it():
    def kept(m, x):
        return checkpoint(lambda y: m.fc(y).T, x, use_reentrant=False)

    model = Calls(kept, fc=nn.Linear(4, 6))
    with ts.capture(model, "*") as run:
        with pytest.warns(GuessedAxisWarning, match="act_post_states .lost at tag_activation"):
            torch.compile(model, backend="eager")(images(4, 4))
        with pytest.warns(GuessedAxisWarning, match="3 neurons along axis 1"):
            torch.compile(model, backend="eager")(images(3, 4))
    assert (run["act"].axis_origin, run["act"].passes) == ("guess", (1, 2))


def mapped(m, x):
    return torch.vmap(lambda v: v @ m.fc.weight.T + m.fc.bias, out_dims=1)(x)


MAPPED = {
    "out": mapped,
    "computed with": lambda m, x: mapped(m, x) * 2,
    "in a map": lambda m, x: torch.vmap(torch.vmap(torch.sin), out_dims=1)(m.fc(x)),
    "after a layer": lambda m, x: torch.vmap(torch.tanh, 1)(m.fc(x)),
}


@pytest.mark.parametrize("how", MAPPED)
def test_what_vmap_returns_is_a_guess(how):
    """Its neurons may be along axis 0: no function that is seen puts the mapped axis there."""
    model = Calls(MAPPED[how], fc=nn.Linear(4, 6))
    warns = pytest.warns(GuessedAxisWarning, match="act_post_states .lost at vmap")
    with warns, ts.capture(model, "act") as run:
        model(images(6, 4))
    assert run["act"].axis_origin == "guess"
    with pytest.raises(ts.errors.InputsUnknown, match="inputs lost at vmap"):
        run["act"].counts(0)


def test_no_pass_fails_for_a_later_one_of_other_sizes():
    model = Calls(mapped, fc=nn.Linear(4, 6))
    with ts.capture(model, "act") as run:
        with pytest.warns(GuessedAxisWarning, match="lost at vmap"):
            model(images(4, 4))
        with pytest.warns(GuessedAxisWarning, match="3 neurons along axis 1"):
            model(images(3, 4))
    assert run["act"].passes == (1, 2)


def test_maps_without_neurons_lose_none():
    """As those that make masks."""

    def masked(m, x):
        keep = torch.vmap(torch.vmap(torch.ge, (None, 0)), (0, None))(*[torch.arange(3)] * 2)
        return keep.float() @ m.fc(x)

    model = Calls(masked, fc=nn.Linear(4, 6))
    with ts.capture(model, "act") as run:
        model(images(3, 3, 4))
    assert (run["act"].axis, run["act"].axis_origin) == (2, "flow")


def test_a_constant_where_mapped_neurons_were_in_memory_has_lost_nothing():
    memory = np.zeros((3, 6), np.float32)

    def with_constant(m, x):
        torch.vmap(torch.Tensor.add_)(torch.from_numpy(memory), m.fc(x))
        memory.fill(1)
        return torch.from_numpy(memory)

    model = Calls(with_constant, fc=nn.Linear(4, 6))
    with torch.no_grad(), ts.capture(model, "act") as run:
        model(images(3, 4))
    assert run["act"].axis_origin == "rule"


def test_what_was_mapped_and_is_written_has_no_known_inputs():
    def written(m, x):
        h = m.fc(x)
        h[:] = torch.vmap(lambda v: v * 2, 1, 1)(h.flip(0))
        return h

    model = Calls(written, fc=nn.Linear(4, 6))
    warns = pytest.warns(GuessedAxisWarning, match="lost at __setitem__")
    with warns, ts.capture(model, "act") as run:
        model(images(3, 4))
    with pytest.raises(ts.errors.InputsUnknown):
        run["act"].counts(0)


def test_neurons_of_one_input_may_be_along_the_first_axis():
    def turned(m, x):
        return m.fc(x).as_strided((6, 1), (1, 6))

    model = Calls(turned, fc=nn.Linear(4, 6))
    warns = pytest.warns(GuessedAxisWarning, match="lost at as_strided")
    with warns, ts.capture(model, "act") as run:
        model(images(1, 4))
    assert run["act"].axis_origin == "guess"


@pytest.mark.usefixtures("nothing_compiled_before")
@pytest.mark.parametrize("breaks", ["in a loop", "before"])
def test_behind_a_graph_break(breaks):
    def broken(m, x):
        h = m.fc(x)
        for part in m.parts if breaks == "in a loop" else [m.parts[0]]:
            torch._dynamo.graph_break()
            h = part(h.T)
        return h

    model = Calls(broken, fc=nn.Linear(4, 6), parts=nn.ModuleList([nn.Tanh(), nn.Tanh()]))
    warns = pytest.warns(GuessedAxisWarning, match="lost at a graph break")
    with warns, ts.capture(model, "*") as run:
        torch.compile(model, backend="eager")(images(6, 4))
    origins = {name: point.axis_origin for name, point in run.items() if point.state_count}
    assert "rule" not in origins.values(), origins
