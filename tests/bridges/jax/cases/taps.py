"""The probe `tap`: each executed call is recorded, in transformations and in Flax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import tensorstate_gpu as ts
from tests.bridges.jax.cases.transformations import numbers
from tests.support.samples import thinned


def network(run):
    def forward(w, x):
        return jnp.sum(jnp.tanh(ts.tap(x @ w, "dense", run)) ** 2)

    return forward


W = jnp.asarray(np.random.default_rng(1).normal(size=(3, 11)), jnp.float32)


XS = jnp.asarray(np.random.default_rng(2).normal(size=(4, 5, 3)), jnp.float32)


def over_scan(forward):
    return lambda w, x: jax.lax.scan(lambda sum_, each: (sum_ + forward(w, each), None), 0.0, x)[0]


def by_cond(forward):
    return lambda w, x: jax.lax.cond(x.sum() != 0, forward, lambda w, x: 0.0, w, x)


# Name -> what is made of the function, its second argument, and how many batches it sees.
WAYS = {
    "eagerly": (lambda f: f, XS[0], 1),
    "jit": (jax.jit, XS[0], 1),
    "grad": (jax.grad, XS[0], 1),
    "jit of grad": (lambda f: jax.jit(jax.value_and_grad(f)), XS[0], 1),
    "grad of jit": (lambda f: jax.grad(jax.jit(f)), XS[0], 1),
    "jvp": (lambda f: lambda w, x: jax.jvp(f, (w, x), (w, x)), XS[0], 1),
    "hessian": (jax.hessian, XS[0], 1),
    "scan": (over_scan, XS, 4),
    "grad of scan": (lambda f: jax.grad(over_scan(f)), XS, 4),
    "jit of grad of scan": (lambda f: jax.jit(jax.grad(over_scan(f))), XS, 4),
    "cond": (lambda f: jax.jit(by_cond(f)), XS[0], 1),
    "grad of cond": (lambda f: jax.grad(by_cond(f)), XS[0], 1),
    "vmap": (lambda f: jax.vmap(f, (None, 0)), XS, 4),
    "vmap of vmap": (
        lambda f: lambda w, x: jax.vmap(jax.vmap(f, (None, 0)), (None, 0))(w, x[:, None]),
        XS,
        4,
    ),
    "jit of vmap of grad": (lambda f: jax.jit(jax.vmap(jax.grad(f), (None, 0))), XS, 4),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_executed_call_is_recorded_once_and_in_order(way):
    make, x, batches = WAYS[way]
    run = ts.Run()
    function = make(network(run))
    expected = [np.asarray(ts.compress_states(each @ W)) for each in x.reshape(batches, 5, 3)]
    for calls in (1, 2):
        function(W, x)
        assert run["dense"].state_count == calls * batches * 5
        np.testing.assert_array_equal(run["dense"].raw_states, np.concatenate(calls * expected))
    assert run["dense"].instance_count == 2 * batches * 5


@pytest.mark.parametrize("way", thinned(WAYS, [*WAYS][::4]))
def test_nothing_else_changes(way):
    make, x, _ = WAYS[way]
    bare = make(lambda w, x: jnp.sum(jnp.tanh(x @ w) ** 2))(W, x)
    tapped = make(network(ts.Run()))(W, x)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5), bare, tapped)


def test_reading_waits_for_calls_that_are_under_way():
    """On CPUs JAX itself waits for functions with callbacks; on other devices it does not."""
    run = ts.Run()
    jax.jit(network(run))(W, XS[0])
    assert run["dense"].intake._barriers == [jax.effects_barrier]


def test_tracing_alone_records_nothing():
    run = ts.Run()
    jax.eval_shape(network(run), W, XS[0])
    jax.jit(network(run)).lower(W, XS[0]).compile()
    assert run["dense"].state_count == 0


def test_a_branch_that_is_not_taken_records_nothing():
    run = ts.Run()
    jax.jit(by_cond(network(run)))(W, jnp.zeros((5, 3)))
    assert run["dense"].state_count == 0


def test_values_pass_bit_for_bit():
    x, _ = numbers("float32")
    passed = jax.jit(lambda x: ts.tap(x, "x", ts.Run()))(x)
    np.testing.assert_array_equal(
        jax.lax.bitcast_convert_type(passed, jnp.int32), jax.lax.bitcast_convert_type(x, jnp.int32)
    )


def test_only_packed_rows_leave_the_graph():
    jaxpr = str(jax.make_jaxpr(network(ts.Run()))(W, XS[0]))
    assert "tensorstate_host_call" in jaxpr
    run = ts.Run()
    seen = []
    intake = run.point("dense").intake
    record = intake.record
    intake.record = lambda rows, *rest: seen.append(rows) or record(rows, *rest)
    jax.block_until_ready(jax.jit(network(run))(W, XS[0]))
    jax.effects_barrier()
    assert [(rows.dtype, rows.shape) for rows in seen] == [(np.uint8, (5, 2))]


def test_the_function_that_records_keeps_no_tracer():
    equations = jax.make_jaxpr(network(ts.Run()))(W, XS[0]).eqns
    [call] = (each for each in equations if each.primitive.name == "tensorstate_host_call")
    held = [cell.cell_contents for cell in call.params["host"].__closure__]
    assert held
    assert not any(isinstance(each, jax.core.Tracer) for each in held)


@pytest.mark.parametrize("remat", [jax.checkpoint, lambda f: jax.jit(jax.checkpoint(f))])
def test_inside_checkpoint_the_error_names_the_way_out(remat):
    with pytest.raises(RuntimeError, match=r"jax.checkpoint.*return compress_states\(x\)"):
        jax.grad(remat(network(ts.Run())))(W, XS[0])


def test_a_capture_point_of_ones_own():
    point = ts.CapturePoint("dense", keep="counts", threshold=0.5, neuron_axis=0)
    run = ts.Run([point])
    jax.jit(network(run))(W, XS[0])
    expected = ts.compress_states(np.asarray(XS[0] @ W), threshold=0.5, neuron_axis=0)
    assert point.histogram() == ts.count_states(expected, neurons=5)
    assert point.axis == 0
    assert "dense" in str(run.report())


def test_flax():
    class Model(nnx.Module):
        def __init__(self, run, rngs):
            self.conv = nnx.Conv(1, 6, (3, 3), rngs=rngs)
            self.dense = nnx.Linear(6 * 8 * 8, 10, rngs=rngs)
            self.run = run

        def __call__(self, x):
            x = nnx.relu(ts.tap(self.conv(x), "conv", self.run))
            return ts.tap(self.dense(x.reshape(len(x), -1)), "dense", self.run)

    run = ts.Run()
    model = Model(run, nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(7, 8, 8, 1)), jnp.float32)

    @nnx.jit
    def step(model, x):
        return nnx.value_and_grad(lambda model: (model(x) ** 2).mean())(model)[0]

    for _ in range(3):
        step(model, x)
    assert run["conv"].state_count == 3 * 7 * 64
    assert run["dense"].state_count == 3 * 7
    assert run["conv"].neurons == 6


class Tapped(linen.Module):
    run: ts.Run

    @linen.compact
    def __call__(self, x):
        return ts.tap(linen.Dense(4)(x), "dense", self.run)


class Outer(linen.Module):
    run: ts.Run

    @linen.compact
    def __call__(self, x):
        return ts.tap(Tapped(self.run)(x) + 1, "sum", self.run)


@pytest.mark.parametrize("compile", [lambda function: function, jax.jit], ids=["eager", "jit"])
def test_nothing_is_recorded_while_flax_linen_initialises(compile):
    run, x = ts.Run(), jnp.ones((5, 3))
    model = Outer(run)
    parameters = compile(model.init)(jax.random.key(0), x)
    output, _ = compile(model.init_with_output)(jax.random.key(0), x)
    jax.eval_shape(model.init, jax.random.key(0), x)
    assert [point.state_count for point in run.values()] == []
    np.testing.assert_array_equal(compile(model.apply)(parameters, x), output)
    assert {name: point.state_count for name, point in run.items()} == {"dense": 5, "sum": 5}
    ts.tap(x, "outside", run)
    assert run["outside"].state_count == 5


def test_nothing_is_recorded_while_flax_nnx_initialises():
    class Model(nnx.Module):
        def __init__(self, run, rngs):
            self.inner, self.run = nnx.bridge.ToNNX(Tapped(run), rngs), run

        def __call__(self, x):
            return ts.tap(self.inner(x), "nnx", self.run)

    run, x = ts.Run(), jnp.ones((5, 3))
    model = Model(run, nnx.Rngs(0))
    nnx.bridge.lazy_init(model, x)
    nnx.eval_shape(lambda: Model(run, nnx.Rngs(0)))
    assert list(run) == []
    nnx.jit(lambda model, x: model(x))(model, x)
    assert {name: point.state_count for name, point in run.items()} == {"dense": 5, "nnx": 5}


@pytest.mark.parametrize("flops", [False, True])
def test_nothing_is_recorded_while_flax_nnx_lists_layers(flops, capsys):
    """It runs a model for the shapes, some layers twice."""

    class Model(nnx.Module):
        def __init__(self, run):
            self.inner, self.run = nnx.Linear(3, 4, rngs=nnx.Rngs(0)), run

        def __call__(self, x):
            return ts.tap(self.inner(x), "nnx", self.run)

    run, x = ts.Run(), jnp.ones((5, 3))
    model = Model(run)
    nnx.tabulate(model, x, compute_flops=flops)
    assert list(run) == []
    nnx.jit(lambda model, x: model(x))(model, x)
    assert run["nnx"].state_count == 5


def test_empty_batches():
    run = ts.Run()
    jax.jit(lambda x: ts.tap(x, "x", run))(jnp.ones((0, 3)))
    assert run["x"].state_count == 0
    jax.jit(lambda x: ts.tap(x, "x", run))(jnp.ones((2, 3)))
    assert run["x"].state_count == 2


def test_one_example_without_a_batch_axis():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 11)), jnp.float32)
    run = ts.Run()
    ts.tap(x[0], "one", run)
    jax.jit(jax.vmap(lambda one: ts.tap(one, "mapped", run)))(x)
    ts.tap(x[0], "given", run, neuron_axis=0)
    assert (run["one"].instance_count, run["one"].neurons, run["one"].axis) == (1, 11, 0)
    np.testing.assert_array_equal(run["mapped"].raw_states, ts.compress_states(x))
    assert run["mapped"].instance_count == 6
    assert [run[name].axis_origin for name in run] == ["rule", "rule", "given"]


def test_labels_of_a_block():
    run, x = ts.Run([ts.CapturePoint("x")]), jnp.ones((4, 3))
    step = jax.jit(lambda x: ts.tap(x, "x", run))
    with run.labels([0, 0, 1, 1]):
        step(x)
        step(x)
    with run.labels([2] * 4):
        step(x)
    assert {label: each.total for label, each in run["x"].counts_by().items()} == {0: 4, 1: 4, 2: 4}


@pytest.mark.parametrize("name", ["_vmap_pmap", "my_shard_map", "ad_checkpoint"])
def test_modules_of_others_are_not_those_of_jax(name):
    """Equinox calls jax.vmap in a file _vmap_pmap.py."""
    theirs = {"__name__": f"equinox.{name}"}
    code = "def mapped(f, x):\n    return jax.vmap(f)(x)\ndef lazy_init(f, x):\n    return f(x)\n"
    exec(compile("import jax\n" + code, f"/flax/equinox/{name}.py", "exec"), theirs)
    run, x = ts.Run(), jnp.ones((5, 3))
    jax.jit(lambda x: theirs["mapped"](lambda one: ts.tap(one, "mapped", run), x))(x)
    theirs["lazy_init"](lambda x: ts.tap(x, "lazily", run), x)
    assert {name: point.state_count for name, point in run.items()} == {"mapped": 5, "lazily": 5}


def test_one_example_of_several_positions():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4, 11)), jnp.float32)
    run = ts.Run()
    jax.jit(jax.vmap(lambda one: ts.tap(one[None], "mapped", run)[0]))(x)
    np.testing.assert_array_equal(run["mapped"].raw_states, ts.compress_states(x))
    assert (run["mapped"].instance_count, run["mapped"].spatial_shape) == (6, (4,))
