"""The counts of all ranks of a job: of each phase and layer that some rank has captured."""

from collections.abc import Callable, Collection, Mapping

from tensorstate_gpu._arrays.frameworks import ranks_of
from tensorstate_gpu._capturing.window import CountsWindow
from tensorstate_gpu._states.rank_exchange import in_step, same_on_all
from tensorstate_gpu._states.state_counts import RankCounts, StateCounts


def counts_over_ranks(
    find_windows: Callable[[], Mapping[str, CountsWindow]],
    layers: Collection[str],
    process_group: object,
) -> dict[str, RankCounts]:
    """Return the counts of each layer on all ranks, in one order. Collective: all ranks call it.

    ``find_windows``: returns what this rank has captured, by the name of the states; what it raises
    on one rank is an error on all. ``layers``: the names that its monitor captures. Raises
    RanksDisagree, on every rank, if monitors capture other layers, or if the numbers of neurons
    differ.
    """
    ranks = ranks_of(process_group)
    windows = in_step(ranks, find_windows)
    own = {name: window.neurons for name, window in windows.items() if window.neurons}
    everywhere = ranks.of_all((sorted(layers), own))
    same_on_all([names for names, _ in everywhere], "the layers of the monitors")
    neurons = {name: number for _, found in everywhere for name, number in found.items()}

    def counts(name: str) -> StateCounts:
        return in_step(ranks, lambda: _counts(windows.get(name), neurons[name]))

    return {name: counts(name).merge_ranks(process_group) for name in sorted(neurons)}


def _counts(window: CountsWindow | None, neurons: int) -> StateCounts:
    has_states = window is not None and window.neurons
    return window.counts() if window is not None and has_states else StateCounts.empty(neurons)
