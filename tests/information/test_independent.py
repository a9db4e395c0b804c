"""Agreement with independent implementations, where they are installed.

``pip install --group oracles`` installs them. They are for tests only: some have licences that not
everyone may install. Where one is known not to compute the formula that it names, it is left out:
infomeasure's "chao_wang_jost" overflows where more states occurred twice than once, and its
"grassberger" has psi(N) for ln N.
"""

import math
import warnings

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


def assert_agree(ours, theirs, samples, relative=1e-12):
    for name, sample in samples.items():
        assert ours(sample) == pytest.approx(theirs(sample), rel=relative, abs=relative), name


def rows_of(counts):
    return np.repeat(np.arange(len(counts)), counts)


def test_scipy():
    stats = library("scipy.stats")
    assert_agree(information.entropy, lambda counts: stats.entropy(counts, base=2), COUNTS)


def test_scikit_bio():
    alpha = library("skbio.diversity.alpha")
    assert_agree(information.entropy, lambda counts: alpha.shannon(counts, base=2), COUNTS)
    assert_agree(information.coverage, alpha.goods_coverage, COUNTS)


@pytest.mark.parametrize("order", [0, 0.5, 2, 3])
def test_scikit_bio_of_other_orders(order):
    alpha = library("skbio.diversity.alpha")
    assert_agree(
        lambda counts: information.entropy(counts, order),
        lambda counts: alpha.renyi(counts, order=order, base=2),
        COUNTS,
    )
    assert_agree(
        lambda counts: information.effective_states(counts, order),
        lambda counts: alpha.hill(counts, order=order),
        COUNTS,
    )


def test_pyitlib():
    variable = library("pyitlib.discrete_random_variable")
    assert_agree(
        information.entropy,
        lambda counts: float(variable.entropy(rows_of(counts), base=2, estimator="ML")),
        COUNTS,
    )


# Ours, theirs, and to which precision: their Chao-Shen subtracts numbers near 1.
INFOMEASURE = [
    ("plugin", "discrete", 1e-12),
    ("miller-madow", "miller_madow", 1e-12),
    ("chao-shen", "chao_shen", 1e-8),
    ("chao-wang-jost", "chao_wang_jost", 1e-12),
]


@pytest.mark.parametrize(("estimator", "approach", "relative"), INFOMEASURE)
def test_infomeasure(estimator, approach, relative):
    measure = library("infomeasure")

    def overflows(counts):
        return estimator == "chao-wang-jost" and np.sum(counts == 2) > np.sum(counts == 1)

    assert_agree(
        lambda counts: information.entropy(counts, estimator=estimator),
        lambda counts: float(measure.entropy(rows_of(counts), approach=approach, base=2)),
        {name: counts for name, counts in COUNTS.items() if not overflows(counts)},
        relative,
    )


def test_scikit_learn():
    metrics = library("sklearn.metrics")
    assert_agree(
        lambda table: information.mutual_information(table, "plugin"),
        lambda table: metrics.mutual_info_score(None, None, contingency=table) / math.log(2),
        LABELS,
    )


def test_dit():
    dit = library("dit")

    def distributions(pair):
        names = [f"{state:04}" for state in range(pair.shape[1])]
        return [dit.Distribution(names, (row / row.sum()).tolist()) for row in pair]

    def finite(pair):
        return math.isfinite(information.kl_divergence(*pair))

    assert_agree(
        lambda pair: information.js_divergence(*pair),
        lambda pair: dit.divergences.jensen_shannon_divergence(distributions(pair)),
        PAIRS,
    )
    assert_agree(
        lambda pair: information.kl_divergence(*pair),
        lambda pair: dit.divergences.kullback_leibler_divergence(*distributions(pair)),
        {name: pair for name, pair in PAIRS.items() if finite(pair)},
    )
