"""The two backends are twins: the functions of the protocol, with the same parameter names."""

import inspect

import pytest

from tensorstate_gpu import cpu_fallback, cuda
from tensorstate_gpu._arrays.backend_protocol import BackendOf, DeviceBackend, HostBackend


def functions(*protocols):
    return {name for kind in protocols for name in vars(kind) if not name.startswith("_")}


PROTOCOLS = {cpu_fallback: HostBackend, cuda: DeviceBackend}
FUNCTIONS = [
    pytest.param(backend, protocol, name, id=f"{backend.__name__.rpartition('.')[2]}-{name}")
    for backend, protocol in PROTOCOLS.items()
    for name in sorted(functions(BackendOf, protocol))
]


def parameters(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize(("backend", "protocol", "name"), FUNCTIONS)
def test_parameters_have_the_names_of_the_protocol(backend, protocol, name):
    assert parameters(getattr(backend, name)) == parameters(getattr(protocol, name))


def test_nothing_else_is_offered():
    for backend, protocol in PROTOCOLS.items():
        assert set(backend.__all__) == functions(BackendOf, protocol)
