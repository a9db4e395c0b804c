"""Which layers of a large network have a bar and a panel on a page; its table has all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tensorstate_gpu.reporting.layer_profile import LayerProfile
from tensorstate_gpu.reporting.layer_report import LayerReport

MOST_PANELS = 50  # with 400 neurons each, a page of them has under 3 MB and opens in 2 seconds


def chosen_layers(layers: Sequence[LayerReport], profiles: Mapping[str, LayerProfile]) -> list[int]:
    """Return the indices of the layers to look at first, in the order of the model.

    All, if they are few. Else in turn the next of each ranking, so that each is represented.
    """
    if len(layers) <= MOST_PANELS:
        return list(range(len(layers)))
    rankings: tuple[Callable[[int], float], ...] = (
        lambda index: layers[index].efficiency,
        lambda index: layers[index].coverage,
        lambda index: -_constant_share(profiles.get(layers[index].layer)),
    )
    ranked = [sorted(range(len(layers)), key=ranking) for ranking in rankings]
    in_turn = dict.fromkeys(index for each in zip(*ranked, strict=True) for index in each)
    return sorted([*in_turn][:MOST_PANELS])


def why_chosen(shown: int, layers: int) -> list[str]:
    """What the page says about layers that have no panel, if there are any."""
    if shown == layers:
        return []
    return [
        f"{shown:,} of {layers:,} layers have a bar and a panel here: in turn the least efficient, "
        "those with the lowest coverage, and those with the largest share of neurons that never "
        "or always fire. The table has all layers."
    ]


def _constant_share(profile: LayerProfile | None) -> float:
    """Return the share of a layer's neurons that never or always fire, from 0 to 1."""
    if profile is None:
        return 0.0
    return (profile.dead + profile.always_on) / len(profile.firing)
