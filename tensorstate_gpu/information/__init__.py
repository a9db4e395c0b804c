"""Measures of histograms of states: pure functions of counts. Entropies are in bits."""

from tensorstate_gpu.information.class_information import mutual_information
from tensorstate_gpu.information.composed_estimates import (
    estimate_aIQ,
    estimate_difference,
    estimate_network_efficiency,
)
from tensorstate_gpu.information.coverages import coverage
from tensorstate_gpu.information.divergences import (
    cross_entropy,
    js_divergence,
    kl_divergence,
    total_variation,
)
from tensorstate_gpu.information.divergences_of_classes import ClassDivergences, class_divergences
from tensorstate_gpu.information.efficiencies import aIQ, ceiling, efficiency, network_efficiency
from tensorstate_gpu.information.entropies import effective_states, entropy
from tensorstate_gpu.information.estimated_measure import Estimate
from tensorstate_gpu.information.estimates import estimate
from tensorstate_gpu.information.information_estimates import estimate_mutual_information
from tensorstate_gpu.information.label_permutations import PermutationTest, permutation_test
from tensorstate_gpu.information.rarefactions import rarefaction
from tensorstate_gpu.information.unseen_states import UnseenShare, unseen_share

__all__ = [
    "ClassDivergences",
    "Estimate",
    "PermutationTest",
    "UnseenShare",
    "aIQ",
    "ceiling",
    "class_divergences",
    "coverage",
    "cross_entropy",
    "effective_states",
    "efficiency",
    "entropy",
    "estimate",
    "estimate_aIQ",
    "estimate_difference",
    "estimate_mutual_information",
    "estimate_network_efficiency",
    "js_divergence",
    "kl_divergence",
    "mutual_information",
    "network_efficiency",
    "permutation_test",
    "rarefaction",
    "total_variation",
    "unseen_share",
]


def __dir__() -> list[str]:
    """For completion in editors and notebooks: without the modules inside."""
    return __all__
