"""MeasuredCounts: the measures that all histograms of states have, wherever their counts are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import cast

from tensorstate_gpu import information
from tensorstate_gpu._arrays.array_types import Weights
from tensorstate_gpu._html import html_bar, html_table
from tensorstate_gpu.information.estimators import Estimator


class MeasuredCounts(ABC):
    """A histogram of states, as the functions of ``information`` take it."""

    __slots__ = ()

    @property
    @abstractmethod
    def neurons(self) -> int:
        """How many neurons the states are of."""

    @property
    @abstractmethod
    def total(self) -> int:
        """The number of states counted, including repetitions."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of distinct states."""

    def entropy(self, alpha: float = 1, estimator: Estimator = "plugin") -> float:
        """Return the Rényi entropy of order alpha, in bits. Raises ValueError if empty.

        ``estimator`` as for `information.entropy`.
        """
        return information.entropy(self._weights, alpha, estimator)

    def max_entropy(self) -> int:
        """Return the entropy if all states were equally likely, in bits: the number of neurons."""
        return self.neurons

    def efficiency(
        self, alpha1: float = 1, alpha2: float | None = None, estimator: Estimator = "plugin"
    ) -> float:
        """Return entropy(alpha1) / entropy(alpha2), or / neurons. Raises ValueError if empty."""
        return information.efficiency(self._weights, self.neurons, alpha1, alpha2, estimator)

    @property
    def _weights(self) -> Weights:
        return cast(Weights, self)  # each subclass has counts, or counts of counts

    def __repr__(self) -> str:
        kind = type(self).__name__
        if not len(self):
            return f"{kind}(empty, {_number(self.neurons, 'neuron')})"
        return (
            f"{kind}({len(self):,} distinct of {_number(self.total, 'state')}, "
            f"{_number(self.neurons, 'neuron')}, entropy {_shown(self.entropy(), 3)} bits, "
            f"efficiency {_percent(self.efficiency())}, "
            f"coverage {_percent(information.coverage(self._weights))})"
        )

    def _repr_html_(self) -> str:
        shown = {
            "states": f"{self.total:,}",
            "distinct": f"{len(self):,}",
            "neurons": f"{self.neurons:,}",
        }
        if not len(self):
            return html_table(shown, [tuple(shown.values())])
        efficiency = self.efficiency()
        shown |= {
            "entropy": f"{_shown(self.entropy(), 3)} bits",
            "efficiency": _percent(efficiency),
            "coverage": _percent(information.coverage(self._weights)),
        }
        return html_table(shown, [tuple(shown.values())], [html_bar(efficiency)])


def _percent(share: float) -> str:
    return f"{_shown(100 * share, 1)} %"


def _shown(number: float, decimals: int) -> str:
    """Return a number with so many decimals, or one digit of it. Only 0 is shown as 0."""
    text = f"{number:.{decimals}f}"
    return text if float(text) or not number else f"{number:.1g}"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
