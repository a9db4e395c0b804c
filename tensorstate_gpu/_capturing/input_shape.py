"""The shape that reset_states() takes: the number of neurons in it."""

from collections.abc import Iterable

from tensorstate_gpu._arguments import positive_integer


def sizes_of(input_shape: object) -> tuple[object, ...]:
    """Return the sizes of a shape. Raises TypeError for something else."""
    if isinstance(input_shape, str) or not isinstance(input_shape, Iterable):
        raise TypeError(f"input_shape must be a sequence of sizes, got {input_shape!r}")
    return tuple(input_shape)


def neurons_from_shape(axis: int, sizes: tuple[object, ...]) -> int:
    """Return the size of the neuron axis. Raises TypeError or ValueError if there is none."""
    if not -len(sizes) <= axis < len(sizes):
        raise ValueError(f"input_shape {sizes} has no neuron axis {axis}")
    return positive_integer(sizes[axis], f"input_shape[{axis}]")
