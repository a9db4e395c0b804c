"""The two backends are twins: the functions of the protocol, with the same parameter names."""

import inspect

import pytest

from tensorstate_gpu import cpu_fallback, cuda
from tensorstate_gpu._arrays.backend_protocol import BackendOf, DeviceBackend, HostBackend


def functions(*protocols):
    return {name for kind in protocols for name in vars(kind) if not name.startswith("_")}


FUNCTIONS = sorted(functions(BackendOf, HostBackend))


def parameters(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize("backend", [cpu_fallback, cuda], ids=["cpu_fallback", "cuda"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_parameters_have_the_names_of_the_protocol(backend, name):
    assert parameters(getattr(backend, name)) == parameters(getattr(HostBackend, name))


def test_nothing_else_is_offered():
    assert set(cpu_fallback.__all__) == functions(BackendOf, HostBackend)
    assert set(cuda.__all__) == functions(BackendOf, DeviceBackend)
