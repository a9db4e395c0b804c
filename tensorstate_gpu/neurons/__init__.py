"""What the neurons of a layer do: pure functions of its states, or of a histogram of them."""

from tensorstate_gpu.neurons.patterns import TopStates, active_neurons, patterns_seen, top_states
from tensorstate_gpu.neurons.rates import always_on, dead, firing_rates, neuron_entropies
from tensorstate_gpu.neurons.synchrony import (
    EquivalentNeurons,
    cofiring,
    correlations,
    equivalent_neurons,
)

__all__ = [
    "EquivalentNeurons",
    "TopStates",
    "active_neurons",
    "always_on",
    "cofiring",
    "correlations",
    "dead",
    "equivalent_neurons",
    "firing_rates",
    "neuron_entropies",
    "patterns_seen",
    "top_states",
]


def __dir__() -> list[str]:
    """For completion in editors and notebooks: without the modules inside."""
    return __all__
