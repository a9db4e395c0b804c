"""The counts of all ranks of a job: of each phase and layer that some rank has captured."""

from collections.abc import Collection, Mapping

from tensorstate_gpu._arrays.frameworks import ranks_of
from tensorstate_gpu._capturing.window import CountsWindow
from tensorstate_gpu._states.rank_exchange import same_on_all
from tensorstate_gpu._states.state_counts import RankCounts, StateCounts


def counts_over_ranks(
    windows: Mapping[str, CountsWindow], layers: Collection[str], process_group: object
) -> dict[str, RankCounts]:
    """Return the counts of each layer on all ranks, in one order. Collective: all ranks call it.

    ``windows``: what this rank has captured, by the name of the states. ``layers``: the names that
    its monitor captures. Raises RanksDisagree, on every rank, if monitors capture other layers, or
    if the numbers of neurons differ.
    """
    own = {name: window.neurons for name, window in windows.items() if window.neurons}
    everywhere = ranks_of(process_group).of_all((sorted(layers), own))
    same_on_all([names for names, _ in everywhere], "the layers of the monitors")
    neurons = {name: number for _, found in everywhere for name, number in found.items()}
    return {
        name: _counts(windows.get(name), neurons[name]).merge_ranks(process_group)
        for name in sorted(neurons)
    }


def _counts(window: CountsWindow | None, neurons: int) -> StateCounts:
    has_states = window is not None and window.neurons
    return window.counts() if window is not None and has_states else StateCounts.empty(neurons)
