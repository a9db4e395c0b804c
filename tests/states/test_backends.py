"""The two backends are twins: the functions of the protocol, with the same parameter names."""

import inspect

import pytest

from tensorstate_gpu import cpu_fallback, cuda
from tensorstate_gpu._arrays.backend_protocol import Backend, DeviceBackend

FUNCTIONS = [name for name in vars(Backend) if not name.startswith("_")]


def parameters(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize("backend", [cpu_fallback, cuda], ids=["cpu_fallback", "cuda"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_parameters_have_the_names_of_the_protocol(backend, name):
    assert parameters(getattr(backend, name)) == parameters(getattr(Backend, name))


def test_nothing_else_is_offered():
    on_a_device = {name for name in vars(DeviceBackend) if not name.startswith("_")}
    assert set(cpu_fallback.__all__) == set(FUNCTIONS)
    assert set(cuda.__all__) == set(FUNCTIONS) | on_a_device
