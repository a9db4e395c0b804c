"""Arrays that no kernel can read raise before any work: elsewhere, lazy, nested, without memory."""

from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tests.support.foreign_arrays import CUDA, DLPackArray

GOOD = np.ones((4, 10), np.float32)
PACKED = np.array([[3, 1], [0, 0], [3, 1]], np.uint8)


def test_arrays_on_another_device():
    rocm = 10
    with pytest.raises(TypeError, match=r"states.*rocm"):
        ts.compress_states(DLPackArray(GOOD, "float32", device=rocm))
    elsewhere = DLPackArray(PACKED, "uint8", device=rocm)
    for function in (ts.popcount, ts.sort_states, ts.count_states):
        with pytest.raises(TypeError, match=r"states.*rocm"):
            function(elsewhere)


@pytest.mark.skipif(find_spec("cupy") is not None, reason="says what happens without CuPy")
def test_arrays_on_a_gpu_without_cupy():
    with pytest.raises(ImportError, match=r"CuPy: pip install"):
        ts.compress_states(DLPackArray(GOOD, "float32", device=CUDA))
    with pytest.raises(ImportError, match=r"CuPy: pip install"):
        ts.count_states(DLPackArray(PACKED, "uint8", device=CUDA))
    with pytest.raises(ImportError, match=r"CuPy: pip install"):
        ts.count_states(SimpleNamespace(__cuda_array_interface__={}))


def test_lazily_negated_tensors_are_not_misread():
    x = torch.complex(torch.zeros(2, 8), torch.ones(2, 8)).conj().imag
    assert x.is_neg()
    with pytest.raises(TypeError, match=r"states.*resolve_neg"):
        ts.compress_states(x)
    assert ts.compress_states(x.resolve_neg()).tolist() == [[0], [0]]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors_are_refused_in_our_words(layout):
    x = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)], layout=layout)
    with pytest.raises(TypeError, match=r"states is a nested tensor; .*unbind"):
        ts.compress_states(x)
    assert [ts.compress_states(part).tolist() for part in x.unbind()] == [[[7], [7]], [[7]]]
    with pytest.raises(TypeError, match=r"states is a nested tensor"):
        ts.count_states(x.to(torch.uint8))


def test_a_tensor_without_memory_raises():
    emptied = torch.ones(5, 3)
    emptied.untyped_storage().resize_(0)
    for tensor in (emptied, torch._efficientzerotensor(5, 3)):
        with pytest.raises(TypeError, match="states has no memory behind it"):
            ts.compress_states(tensor)


@pytest.mark.parametrize("capsule", [None, 3, "used"])
def test_invalid_capsules(capsule):
    class Broken:
        def __dlpack__(self):
            return capsule if capsule != "used" else used

        def __dlpack_device__(self):
            return 1, 0

    used = torch.ones(4, 10).__dlpack__()
    torch.from_dlpack(used)
    with pytest.raises(
        TypeError, match=r"states cannot be read through DLPack: __dlpack__\(\) gave"
    ):
        ts.compress_states(Broken())


@pytest.mark.parametrize("name", ["string", "variant", "resource"])
def test_tensors_of_tensorflow_whose_export_ends_the_process(name):
    class OfTensorFlow:
        dtype = SimpleNamespace(name=name)

        def __dlpack__(self):
            pytest.fail("TensorFlow would end the process")

    with pytest.raises(TypeError, match=rf"states has dtype .*{name}.*; accepted are float16"):
        ts.compress_states(OfTensorFlow())


def test_errors_of_other_libraries_name_the_argument():
    class InvalidArgumentError(Exception):
        pass

    class OfTensorFlow:
        def __dlpack__(self):
            raise InvalidArgumentError("DT_QINT8 is not supported by dlpack")

    with pytest.raises(TypeError, match="states cannot be read through DLPack: DT_QINT8"):
        ts.compress_states(OfTensorFlow())


WITHOUT_NUMBERS = {
    "meta": torch.ones(3, device="meta"),
    "sparse": torch.ones(3).to_sparse(),
    "masked": np.ma.array([1, 2, 3], mask=[False, True, False]),
}
WITHOUT_MEMORY = WITHOUT_NUMBERS | {
    "negated": torch.complex(torch.zeros(3), torch.ones(3)).conj().imag,
    "needs a gradient": torch.ones(3, requires_grad=True),
}
TAKES_MEMORY = {
    "labels": ts.CapturePoint("layer").labels,
    "packed": lambda array: ts.StateCounts(array, [1], 3),
    "counts": lambda array: ts.StateCounts(PACKED[1:2, :1], array, 3),
    "by_label": ts.information.mutual_information,
    "groups": ts.information.estimate,
}
TAKES_NUMBERS = {
    "threshold": lambda array: ts.compress_states(GOOD[:, :3], threshold=array),
    "efficiencies": ts.network_efficiency,
}


@pytest.mark.parametrize(
    ("argument", "kind"),
    [
        *((argument, kind) for argument in TAKES_MEMORY for kind in WITHOUT_MEMORY),
        *((argument, kind) for argument in TAKES_NUMBERS for kind in WITHOUT_NUMBERS),
    ],
)
def test_what_cannot_be_read_is_named(argument, kind):
    function = (TAKES_MEMORY | TAKES_NUMBERS)[argument]
    with pytest.raises(TypeError, match=rf"^{argument} (is a masked array|cannot be read)"):
        function(WITHOUT_MEMORY[kind])


def test_single_numbers_that_cannot_be_read():
    with pytest.raises(TypeError, match=r"^accuracy cannot be read as numbers, got Tensor"):
        ts.aIQ(0.5, WITHOUT_NUMBERS["meta"].sum(), 2)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_nested_tensors_have_no_numbers_in_one_array():
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(1)])
    for argument, function in (TAKES_MEMORY | TAKES_NUMBERS).items():
        with pytest.raises(TypeError, match=f"^{argument} cannot be read .*, got Tensor"):
            function(nested)
