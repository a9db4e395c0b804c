"""A page calls states by the name of their layer, where this says which they are."""

from __future__ import annotations

import dataclasses
from typing import Any

from tensorstate_gpu.reporting.layer_names import layer_labels
from tensorstate_gpu.reporting.page.sentences import Network
from tensorstate_gpu.reporting.text import printable_name


def with_layer_names(report: Network) -> Network:
    """Return a report in which states have the short names that tell them apart.

    Their own names if there are none.
    """
    whole: Any = report
    names = layer_labels([*(layer.layer for layer in report.layers), *whole.missing])
    names = {name: printable_name(short) for name, short in names.items()}
    if len(set(names.values())) < len(names):
        names = {name: printable_name(name) for name in names}

    def named(parts: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            dataclasses.replace(each, layer=names.get(each.layer, each.layer)) for each in parts
        )

    shown: Network = dataclasses.replace(
        whole,
        layers=named(report.layers),
        profiles=named(report.profiles),
        by_label=named(report.by_label),
        missing=tuple(names[each] for each in whole.missing),
        out_of_step=tuple(names[each] for each in whole.out_of_step),
    )
    return shown
