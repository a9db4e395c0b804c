"""Whether the neuron axis is right, in published models: see study.py."""
