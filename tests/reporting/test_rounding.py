"""Only nothing is shown as 0, and only all as 100 %."""

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.reporting.page.sentences import about_network
from tests.support.points import point_of_bits


@pytest.fixture(scope="module")
def seldom():
    """A million states of two neurons, of which one fires once."""
    active = np.zeros((1_000_000, 2), bool)
    active[7, 0] = True
    return ts.Run([point_of_bits("seldom", active)])


def test_bits(seldom):
    assert "  0.00002 bits  " in str(seldom.report())
    assert "0.00002 bits" in seldom.report()._repr_html_()


def test_counts(seldom):
    counts = seldom["seldom"].histogram()
    assert "entropy 2e-05 bits, efficiency 0.001 %, coverage 100.0 %" in repr(counts)
    assert "<td>2e-05 bits</td><td>0.001 %</td>" in counts._repr_html_()
    always = ts.StateCounts(counts.packed[:1], [5], 2)
    assert "entropy 0.000 bits, efficiency 0.0 %" in repr(always)


def test_accuracy(seldom):
    """One of a million answers was wrong."""
    assert ("accuracy", "99.9999 %") in seldom.report(accuracy=0.999999).summary()
    assert ("accuracy", "100.0 %") in seldom.report(accuracy=1).summary()


def test_neurons_that_never_fire():
    active = np.zeros((20, 4000), bool)
    active[3, 0] = True
    *_, told = about_network(ts.Run([point_of_bits("wide", active)]).report())
    assert told == "99.98 % of the neurons of layer wide never fired."
