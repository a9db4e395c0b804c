"""Estimates of many samples at once: those of each alone."""

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.information.estimates import estimate_of_sums
from tensorstate_gpu.information.many_estimates import ManyEstimates

FIELDS = ("value", "plugin", "plugin_of_half", "lower", "upper", "coverage", "least_coverage")


def drawn(rng, neurons, groups, inputs, rows, states, has_units=False):
    """A sample of some inputs, of up to so many rows, in groups by chance."""
    at = rng.integers(0, groups, inputs)
    sizes = rng.integers(1, rows + 1, inputs)
    numbers = rng.integers(0, states, inputs) if rng.random() < 0.5 else None
    parts = []
    for group in range(groups):
        shown = int(sizes[at == group].sum())
        if numbers is None:
            own = np.minimum(rng.geometric(0.3, shown) - 1, states - 1)
        else:
            own = np.repeat(numbers[at == group], sizes[at == group])
        if not len(own):
            parts.append(ts.StateCounts.empty(neurons))
            continue
        packed = own.astype("<u4").view(np.uint8).reshape(-1, 4)[:, : -(-neurons // 8)]
        parts.append(ts.count_states(np.ascontiguousarray(packed), neurons))
    by_group = np.bincount(at, minlength=groups).tolist()
    return ts.GroupedCounts(parts, by_group, int(rng.integers(0, 2**63)), has_units)


def check(samples):
    found = ManyEstimates.of(samples[0].many_with(samples[1:]))
    for place, sample in enumerate(samples):
        expected = estimate_of_sums(sample.group_sums(), None, "entropy", sample.neurons)
        for field in FIELDS:
            assert getattr(found, field)[place] == pytest.approx(
                getattr(expected, field), rel=1e-12, abs=1e-11
            ), field
        error = expected.standard_error
        assert found.standard_error[place] == pytest.approx(
            np.nan if error is None else error, abs=1e-11, nan_ok=True
        )
        assert found.has_interval[place] == (expected.confidence_interval is not None)
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("groups", [2, 16, 32, 50])
def test_samples_of_all_kinds(groups, seed):
    rng = np.random.default_rng(seed)
    neurons = int(rng.choice([1, 4, 9, 17]))
    check(
        [
            drawn(
                rng,
                neurons,
                groups,
                inputs=int(rng.integers(1, 200)),
                rows=int(rng.choice([1, 3, 300])),
                states=int(rng.integers(1, min(2**neurons, 40) + 1)),
                has_units=bool(rng.random() < 0.5),
            )
            for _ in range(20)
        ]
    )


def test_intervals_and_bounds_of_all_kinds_are_among_them():
    """Else the comparison says less than it seems."""
    rng = np.random.default_rng(0)
    found = check([drawn(rng, 9, 32, 150, 2, states) for states in (1, 2, 4, 30, 400)] * 3)
    assert found.has_interval.any()
    assert not found.has_interval.all()
    one_by_one = check([drawn(rng, 30, 32, 40, 1, 2**30) for _ in range(5)])
    assert (one_by_one.lower > 3).any()  # by the lack of coincidences


def test_counts_that_are_large():
    rng = np.random.default_rng(0)
    samples = []
    for most in (10, 10**6, 10**11, 2**53):
        parts = [
            ts.StateCounts(np.arange(8, dtype=np.uint8)[:, None], rng.integers(1, most, 8), 4)
            for _ in range(32)
        ]
        samples.append(ts.GroupedCounts(parts, [3] * 32))
    rows = [sample.together().total for sample in samples]
    assert rows[-1] > 2**53  # of which floats leave out some
    assert check(samples).rows.tolist() == rows


def test_nothing_is_a_warning():
    rng = np.random.default_rng(1)
    with np.errstate(all="raise"):
        check([drawn(rng, 8, 32, inputs, 3, 5) for inputs in (1, 2, 40, 90)])


def test_a_state_of_several_groups_counts_however_seldom_it_is():
    """Beside so many rows, a float does not tell those without its two."""
    own = [np.array([[group], [40]], np.uint8) for group in range(32)]
    parts = [ts.StateCounts(own[group], [2**54, 1], 6) for group in range(2)]
    parts += [ts.StateCounts(own[group][:1], [2**54], 6) for group in range(2, 32)]
    alone = [ts.StateCounts(rows[:1], [2**54], 6) for rows in own]
    found = check([ts.GroupedCounts(each, [1] * 32) for each in (parts, alone)])
    assert found.lower[0] < found.lower[1]
