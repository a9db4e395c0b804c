"""Measures of a histogram of states: pure functions of counts. Entropies are in bits."""

from tensorstate_gpu.information.efficiencies import aIQ, ceiling, efficiency, network_efficiency
from tensorstate_gpu.information.entropies import entropy

__all__ = ["aIQ", "ceiling", "efficiency", "entropy", "network_efficiency"]
