"""Measures of a histogram of states: pure functions of counts. Entropies are in bits."""

from tensorstate_gpu.information.coverages import coverage
from tensorstate_gpu.information.efficiencies import aIQ, ceiling, efficiency, network_efficiency
from tensorstate_gpu.information.entropies import effective_states, entropy
from tensorstate_gpu.information.rarefactions import rarefaction

__all__ = [
    "aIQ",
    "ceiling",
    "coverage",
    "effective_states",
    "efficiency",
    "entropy",
    "network_efficiency",
    "rarefaction",
]
