"""The arrays of a simulated CuPy: NumPy's, on which everything is queued on the current stream."""

import ctypes
import types

import numpy as np

from . import memory
from .scheduler import GPU, Event, Stream, current, get_current_stream, stream_numbered


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """As cupy.ndarray, as far as the product uses it."""

    __module__ = "cupy"  # by which results find its from_dlpack()

    def __init__(self, shape, dtype=float, memptr=None, strides=None):
        shape = tuple(np.atleast_1d(np.asarray(shape, np.int64)).tolist())
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        if memptr is None:
            nothing = memory.MemoryPointer(memory.UnownedMemory(0, 0, None), 0)
            memptr = memory.alloc(size) if size else nothing
        there = memptr.mem.bytes.data if size else None
        offset = memptr.offset if size else 0
        self._set(memptr.mem, np.ndarray(shape, dtype, there, offset, strides if size else None))

    def _set(self, mem, values):
        self.mem, self._values, self.device_id = mem, values, current.devices[-1]

    @classmethod
    def _of(cls, mem, values):
        """The array of values that lie in some memory."""
        new = cls.__new__(cls)
        new._set(mem, values)
        return new

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    nbytes = property(lambda self: self._values.nbytes)
    flags = property(lambda self: self._values.flags)
    strides = property(lambda self: self._values.strides)
    T = property(lambda self: self._of(self.mem, self._values.T))

    @property
    def data(self):
        address = self._values.ctypes.data if self.size else 0
        return types.SimpleNamespace(ptr=address, device_id=self.device_id, mem=self.mem)

    # ---- without work of the device ------------------------------------------------------------

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def view(self, dtype):
        return self._of(self.mem, self._values.view(dtype))

    def reshape(self, *shape):
        values = self._values.reshape(shape[0] if isinstance(shape[0], tuple) else shape)
        assert np.may_share_memory(values, self._values) or not values.size, "it is a copy"
        return self._of(self.mem, values)

    def __getitem__(self, key):
        if isinstance(key, ndarray):
            if key.dtype == bool:
                key = flatnonzero(key)
            return queued(lambda values, places: values[places], self, key)
        assert not isinstance(key, np.ndarray), "CuPy copies indices of the host to the device"
        found = self._values[key]
        if not isinstance(found, np.ndarray):  # a number stays on the device
            found = self._values[key : key + 1].reshape(())
        return self._of(self.mem, found)

    # ---- queued --------------------------------------------------------------------------------

    def __setitem__(self, key, value):
        value = _kept(value)
        if isinstance(key, ndarray):
            _put(lambda: self._values.__setitem__(key._values, _values_of(value)))
            return
        target = self._values[key]
        _put(lambda: np.copyto(target, _values_of(value)))

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        apply = getattr(ufunc, method)
        if out is None:
            return queued(lambda *values: apply(*values, **options), *inputs)
        (target,) = out
        _put(lambda: apply(*map(_values_of, inputs), out=(target._values,), **options))
        return target

    def __array_function__(self, function, types, inputs, options):
        return queued(lambda *values: function(*values, **options), *inputs)

    def copy(self):
        return queued(np.copy, self)

    def fill(self, value):
        _put(lambda: self._values.fill(value))

    def astype(self, dtype, copy=True):
        if np.dtype(dtype) == self.dtype and not copy:
            return self
        return queued(lambda values: values.astype(dtype), self)

    # ---- the host waits ------------------------------------------------------------------------

    def get(self, *, stream=None, out=None, blocking=True):
        """Copy to the host; ``blocking``: and wait for it."""
        key = (stream or get_current_stream()).key
        if out is None:
            out = np.empty(self.shape, self.dtype)
        here, there = self._values, out
        if not blocking:  # neither the array nor pinned memory lives on for a copy on its way
            assert here.flags.c_contiguous
            here, there = (_at(each.ctypes.data, each) for each in (here, out))
        GPU.put(key, lambda: np.copyto(there, here))
        if blocking:
            GPU.finish(key)
        return out

    def item(self):
        return self.get().item()

    def __bool__(self):
        return bool(self.item())

    def __int__(self):
        return int(self.item())

    def __float__(self):
        return float(self.item())

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    # ---- other libraries -----------------------------------------------------------------------

    def __dlpack_device__(self):
        return 2, self.device_id

    def __dlpack__(self, *, stream=None):
        """A capsule that says it is of this device; located() lets other libraries import it."""
        reader, here = stream_numbered(1 if stream is None else stream), get_current_stream()
        if stream != -1 and reader != here.key:
            Stream(reader[1], reader[0]).wait_event(here.record(Event()))
        held = self._values.view(_Holding)
        held.owner = self
        return located(held.__dlpack__(), 2, self.device_id)


def located(capsule, kind, index=0):
    """Write into a DLPack capsule which device its memory is on: kind 1 is the host."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    device = ctypes.c_int32 * 2
    device.from_address(pointer(capsule, b"dltensor") + 8)[:] = kind, index
    return capsule


class _Holding(np.ndarray):
    """A view that keeps a device array alive."""


def _queued_method(name):
    def call(self, **options):
        return queued(lambda values: getattr(values, name)(**options), self)

    return call


for _name in ("sum", "any", "all", "max", "min", "argmax", "argmin"):
    setattr(ndarray, _name, _queued_method(_name))


def _at(address, like):
    """The memory of an array, which may end before this does."""
    return (
        memory.UnownedMemory(address, like.nbytes, None).bytes.view(like.dtype).reshape(like.shape)
    )


def _values_of(value):
    return value._values if isinstance(value, ndarray) else value


def _kept(value):
    """What an operation reads of the host, as it is now."""
    return np.array(value) if isinstance(value, np.ndarray) else value


def _put(run):
    GPU.put(get_current_stream().key, run)


def queued(function, *operands):
    """Queue a function of arrays; returns the array of its result.

    Its shape does not depend on the numbers: zeros tell it.
    """
    operands = [_kept(operand) for operand in operands]
    with np.errstate(all="ignore"):
        like = np.asarray(function(*(_zeros_like(operand) for operand in operands)))
    result = ndarray(like.shape, like.dtype)

    def run():
        with np.errstate(all="ignore"):
            result._values[...] = function(*map(_values_of, operands))

    if result.size:
        _put(run)
    return result


def _zeros_like(operand):
    return np.zeros(operand.shape, operand.dtype) if isinstance(operand, ndarray) else operand


# ---- functions of the module ---------------------------------------------------------------------


def empty(shape, dtype=float):
    return ndarray(shape, dtype)


def zeros(shape, dtype=float):
    return full(shape, 0, dtype)


def full(shape, value, dtype=None):
    result = ndarray(shape, np.asarray(value).dtype if dtype is None else dtype)
    result.fill(value)
    return result


def asarray(values, dtype=None):
    if isinstance(values, ndarray):
        return values if dtype is None else values.astype(dtype, copy=False)
    if hasattr(values, "__cuda_array_interface__"):
        return _from_interface(values)
    values = np.array(values, dtype)  # CuPy's copy is made when the call returns
    result = ndarray(values.shape, values.dtype)
    _put(lambda: np.copyto(result._values, values))
    return result


def _from_interface(values):
    about = values.__cuda_array_interface__
    dtype = np.dtype(about["typestr"])
    size = int(np.prod(about["shape"])) * dtype.itemsize
    there = memory.UnownedMemory(about["data"][0], size, values)
    return ndarray(about["shape"], dtype, memory.MemoryPointer(there, 0), about.get("strides"))


def asnumpy(array):
    return array.get() if isinstance(array, ndarray) else np.asarray(array)


def ascontiguousarray(array):
    return array if array.flags.c_contiguous else array.copy()


def concatenate(arrays, axis=0):
    arrays = list(arrays)
    assert all(isinstance(array, ndarray) for array in arrays)
    return queued(lambda *values: np.concatenate(values, axis), *arrays)


def sort(array):
    return queued(np.sort, array)


def argsort(array, *, kind):
    return queued(lambda values: np.argsort(values, kind=kind), array)


def cumsum(array):
    return queued(np.cumsum, array)


def diff(array):
    return queued(np.diff, array)


def flatnonzero(array):
    """Waits, as CuPy does: the size of the result depends on the numbers."""
    return asarray(np.flatnonzero(array.get()))


def from_dlpack(array):
    """The same memory; the current stream waits for the work that the exporter has queued."""
    if isinstance(array, ndarray):
        return ndarray._of(array.mem, array._values)
    stream = get_current_stream().ptr or 1
    values = np.from_dlpack(_Capsule(located(array.__dlpack__(stream=stream), 1)))
    there = memory.UnownedMemory(values.ctypes.data, values.nbytes, values)
    return ndarray(values.shape, values.dtype, memory.MemoryPointer(there, 0), values.strides)


class _Capsule:
    """A capsule of host memory, as NumPy reads it."""

    def __init__(self, capsule):
        self._capsule = capsule

    def __dlpack_device__(self):
        return 1, 0

    def __dlpack__(self, **_):
        return self._capsule
