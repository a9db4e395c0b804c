"""Agreement with independent implementations, where they are installed.

``pip install --group oracles`` installs them, and ``python -m tests.information.test_independent``
prints the largest relative difference from each: the table of docs/statistics.md. They are for
tests only: some have licences that not everyone may install. Where one is known not to compute the
formula that it names, it is left out: infomeasure's "chao_wang_jost" overflows where more states
occurred twice than once, and its "grassberger" has psi(N) for ln N.
"""

import math
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
import pytest

from tensorstate_gpu import information
from tests.information.reference_values import SAMPLES, TABLES, counts_of

# One symbol for each row is what some of them take.
COUNTS = {name: counts for name in SAMPLES if (counts := counts_of(SAMPLES[name])).sum() <= 20_000}
LABELS = {name: np.array(TABLES[name]["labels_by_states"]) for name in TABLES}
PAIRS = {name: table[:2] for name, table in LABELS.items() if len(table) > 1}


def library(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is in the dependency group 'oracles'")


def rows_of(counts):
    return np.repeat(np.arange(len(counts)), counts)


class Comparison(NamedTuple):
    """What is compared, how we and they compute it, of which samples, and to which precision."""

    what: str
    ours: Callable
    theirs: Callable
    samples: dict = COUNTS
    relative: float = 1e-12

    def differences(self):
        """Of each sample, relative to the larger of 1 and their value."""
        for name, sample in self.samples.items():
            ours, theirs = self.ours(sample), self.theirs(sample)
            yield name, abs(ours - theirs) / max(1, abs(theirs))


def with_scipy():
    stats = library("scipy.stats")
    theirs = partial(stats.entropy, base=2)
    yield Comparison("plug-in", information.entropy, theirs)


def with_scikit_bio():
    alpha = library("skbio.diversity.alpha")
    yield Comparison("plug-in", information.entropy, partial(alpha.shannon, base=2))
    yield Comparison("coverage", information.coverage, alpha.goods_coverage)
    for order in (0, 0.5, 2, 3):
        yield Comparison(
            f"Rényi entropy of order {order}",
            partial(information.entropy, alpha=order),
            partial(alpha.renyi, order=order, base=2),
        )
        yield Comparison(
            f"effective states of order {order}",
            partial(information.effective_states, alpha=order),
            partial(alpha.hill, order=order),
        )


def with_pyitlib():
    variable = library("pyitlib.discrete_random_variable")
    yield Comparison(
        "plug-in",
        information.entropy,
        lambda counts: float(variable.entropy(rows_of(counts), base=2, estimator="ML")),
    )


# Ours, theirs, and to which precision: their Chao-Shen subtracts numbers near 1.
INFOMEASURE = [
    ("plugin", "discrete", 1e-12),
    ("miller-madow", "miller_madow", 1e-12),
    ("chao-shen", "chao_shen", 1e-8),
    ("chao-wang-jost", "chao_wang_jost", 1e-12),
]


def with_infomeasure():
    measure = library("infomeasure")

    def theirs(counts, approach):
        return float(measure.entropy(rows_of(counts), approach=approach, base=2))

    def overflows(counts):
        return np.sum(counts == 2) > np.sum(counts == 1)

    for estimator, approach, relative in INFOMEASURE:
        samples = COUNTS
        if estimator == "chao-wang-jost":
            samples = {name: counts for name, counts in COUNTS.items() if not overflows(counts)}
        ours = partial(information.entropy, estimator=estimator)
        called = "plug-in" if estimator == "plugin" else estimator
        yield Comparison(called, ours, partial(theirs, approach=approach), samples, relative)


def with_scikit_learn():
    metrics = library("sklearn.metrics")
    yield Comparison(
        "mutual information, plug-in",
        lambda table: information.mutual_information(table, "plugin"),
        lambda table: metrics.mutual_info_score(None, None, contingency=table) / math.log(2),
        LABELS,
    )


def with_dit():
    dit = library("dit")

    def distributions(pair):
        names = [f"{state:04}" for state in range(pair.shape[1])]
        return [dit.Distribution(names, (row / row.sum()).tolist()) for row in pair]

    def finite(pair):
        return math.isfinite(information.kl_divergence(*pair))

    yield Comparison(
        "Jensen-Shannon divergence",
        lambda pair: information.js_divergence(*pair),
        lambda pair: dit.divergences.jensen_shannon_divergence(distributions(pair)),
        PAIRS,
    )
    yield Comparison(
        "Kullback-Leibler divergence",
        lambda pair: information.kl_divergence(*pair),
        lambda pair: dit.divergences.kullback_leibler_divergence(*distributions(pair)),
        {name: pair for name, pair in PAIRS.items() if finite(pair)},
    )


LIBRARIES = {
    "scipy": with_scipy,
    "scikit-bio": with_scikit_bio,
    "pyitlib": with_pyitlib,
    "infomeasure": with_infomeasure,
    "scikit-learn": with_scikit_learn,
    "dit": with_dit,
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_agreement(name):
    for comparison in LIBRARIES[name]():
        for sample, difference in comparison.differences():
            assert difference <= comparison.relative, (comparison.what, sample)


def main():
    print("| what | compared with | samples | largest difference |\n|---|---|---:|---:|")
    for name, compare in LIBRARIES.items():
        try:
            comparisons = list(compare())
        except pytest.skip.Exception as reason:
            print(f"| - | {name} | 0 | {reason} |")
            continue
        for each in comparisons:
            largest = max(difference for _, difference in each.differences())
            about = f"{name} {version(name)}", len(each.samples), f"{largest:.0e}"
            print("|", " | ".join(map(str, (each.what, *about))), "|")


if __name__ == "__main__":
    main()
