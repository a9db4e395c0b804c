"""Measures of a histogram of states: pure functions of counts. Entropies are in bits."""

from tensorstate_gpu.information.renyi import (
    aIQ,
    ceiling,
    efficiency,
    entropy,
    network_efficiency,
)

__all__ = ["aIQ", "ceiling", "efficiency", "entropy", "network_efficiency"]
