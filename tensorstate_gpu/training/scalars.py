"""Scalars: the measures of a phase of training, as numbers with names for charts."""

from collections.abc import Mapping

import numpy as np

from tensorstate_gpu import information
from tensorstate_gpu._states.state_counts import RankCounts, StateCounts
from tensorstate_gpu.reporting.layer_names import layer_labels

Scalars = dict[str, float]


def phase_scalars(prefix: str, counts: Mapping[str, StateCounts | RankCounts]) -> Scalars:
    """Return the measures of layers by name, and the network's efficiency, if there are layers.

    ``counts``: the histograms of layers by the names of their states, none of them empty.
    """
    if not counts:
        return {}
    labels = layer_labels(counts)
    layers = {labels[name]: layer_scalars(part) for name, part in counts.items()}
    network = information.network_efficiency([each["efficiency"] for each in layers.values()])
    by_layer = {
        f"{prefix}{measure}/{label}": value
        for label, measures in layers.items()
        for measure, value in measures.items()
    }
    return {f"{prefix}efficiency": network, **by_layer}


def layer_scalars(counts: StateCounts | RankCounts) -> Scalars:
    """Return the measures of a layer."""
    entropy = counts.entropy()
    return {
        "efficiency": entropy / counts.neurons,
        "entropy": entropy,
        "ceiling": information.ceiling(counts.total, counts.neurons),
        "coverage": information.coverage(counts),
        "dead_share": _dead_share(counts),
    }


def _dead_share(counts: StateCounts | RankCounts) -> float:
    """Return the share of neurons that fire in no state, without counting in how many they do."""
    if isinstance(counts, RankCounts):  # of which no rank has all states
        return float((counts.firing_counts() == 0).mean())
    ever = np.bitwise_or.reduce(counts.packed, axis=0)
    fires = np.unpackbits(ever, count=counts.neurons, bitorder="little")
    return 1 - float(fires.mean())
