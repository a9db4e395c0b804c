"""Packed states as arrays of bits: distances, sets of states, bit by bit, and ranges of neurons."""

from tensorstate_gpu.bits.bitwise import bitwise_and, bitwise_not, bitwise_or, bitwise_xor
from tensorstate_gpu.bits.distances import hamming_distances, nearest_states, states_within
from tensorstate_gpu.bits.neuron_ranges import concatenate_neurons, slice_neurons
from tensorstate_gpu.bits.state_sets import UniqueStates, isin, unique

__all__ = [
    "UniqueStates",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "concatenate_neurons",
    "hamming_distances",
    "isin",
    "nearest_states",
    "slice_neurons",
    "states_within",
    "unique",
]


def __dir__() -> list[str]:
    """For completion in editors and notebooks: without the modules inside."""
    return __all__
