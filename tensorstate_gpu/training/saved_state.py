"""The state of a monitor for checkpoints: integers, strings and tensors, which load safely."""

from collections.abc import Collection, Mapping, Sequence, Sized
from typing import Any

from tensorstate_gpu._arguments import integer
from tensorstate_gpu._arrays.saved_arrays import SavedPart, tensors_for_arrays
from tensorstate_gpu._capturing.window import CountsWindow, State

FORMAT = 1
_PARTS = {"global_step", "layers", "firing", "groups", "counts"}
Windows = Mapping[str, Mapping[str, CountsWindow]]  # by phase and layer


def saved_windows(windows: Windows) -> dict[str, dict[str, State]]:
    """Return the counts of all phases and layers, with tensors for arrays."""
    return {
        phase: {name: tensors_for_arrays(window.state()) for name, window in layers.items()}
        for phase, layers in windows.items()
    }


def how_many(windows: Mapping[str, Sized]) -> int:
    """Return how many histograms there are, of all phases and layers."""
    return sum(len(layers) for layers in windows.values())


def loaded_state(
    state: object, layers: Collection[str], rule: str, groups: int | None, window: int | None
) -> tuple[int, int, dict[str, dict[str, CountsWindow]]]:
    """Return the number of steps, that before, and the counts: of one state, or of several ranks'.

    Raises TypeError or ValueError unless they are of a monitor like this one; see check_state().
    """
    states: list[Any] = list(state) if isinstance(state, list | tuple) else [state]
    for each in states:
        check_state(each, layers, rule, groups)
    own = states[0] if len(states) == 1 else together(states)
    saved = SavedPart(own)
    step = saved.integer("global_step")
    # Earlier versions took each number for one more than that before.
    previous = saved.integer("previous_step", least=-1) if "previous_step" in own else step - 1
    return step, previous, loaded_windows(saved.part("counts"), window, groups)


def loaded_windows(
    counts: SavedPart, size: int | None, groups: int | None
) -> dict[str, dict[str, CountsWindow]]:
    """Return what saved_windows() has saved, from tensors on whatever device."""
    loaded: dict[str, dict[str, CountsWindow]] = {}
    for phase, layers in counts.parts().items():
        loaded[phase] = {name: CountsWindow(size, groups) for name in layers.parts()}
        for name, window in loaded[phase].items():
            window.load(layers.part(name))
    return loaded


def together(states: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Return one state with the counts of several, of ranks of a job.

    Raises ValueError if there are none, or if they are of different steps.
    """
    if len({integer(state["global_step"], "global_step") for state in states}) != 1:
        raise ValueError(
            "states must be of the same step, and at least one, got those of "
            f"{[state['global_step'] for state in states]}"
        )
    groups = integer(states[0]["groups"], "groups") or None
    counts: dict[str, dict[str, CountsWindow]] = {}
    for state in states:
        for phase, layers in loaded_windows(SavedPart(state).part("counts"), None, groups).items():
            for name, window in layers.items():
                of_phase = counts.setdefault(phase, {})
                of_phase.setdefault(name, CountsWindow(None, groups)).add_all(window)
    return {**states[0], "counts": saved_windows(counts), "histograms": how_many(counts)}


def check_state(state: object, layers: Collection[str], rule: str, groups: int | None) -> None:
    """Raise TypeError or ValueError unless this is the state of a monitor like this one.

    ``layers``: the names of its states. ``rule``: when a neuron fires.
    """
    if not isinstance(state, Mapping) or "format" not in state:
        raise TypeError(
            f"state must be of state_dict() of a StateMonitor, got {type(state).__name__}"
        )
    if (version := integer(state["format"], "format")) != FORMAT:
        raise ValueError(f"state has the format {version}; this version reads {FORMAT}")
    if missing := sorted(_PARTS - set(state)):
        raise ValueError(f"state is incomplete: it has no {', '.join(missing)}")
    saved = SavedPart(state)
    phases = saved.part("counts").parts()
    there = how_many({phase: layers.parts() for phase, layers in phases.items()})
    due = saved.integer("histograms") if "histograms" in state else there
    if there != due:
        raise ValueError(
            f"state is incomplete: it has {there} histograms, and had {due} when it was saved. "
            "torch.distributed.checkpoint reads only what the monitor has already that loads it: "
            "give it the bytes of torch.save(monitor.state_dict(), file), by rank under another key"
        )
    _check_layers(set(map(str, saved.entries("layers"))), set(layers))
    for what, found, ours in (
        ("firing rule", saved.text("firing"), rule),
        ("number of groups", saved.integer("groups") or None, groups),
    ):
        if found != ours:
            raise ValueError(f"state has another {what}: {found}, here it is {ours}")


def _check_layers(theirs: set[str], ours: set[str]) -> None:
    """Raise ValueError unless a state has the layers that the monitor has."""
    if theirs == ours:
        return
    apart = {"only there are": sorted(theirs - ours), "only here are": sorted(ours - theirs)}
    said = [f"{what} {', '.join(names)}" for what, names in apart.items() if names]
    raise ValueError(f"state is of another model, or of other layers: {'; '.join(said)}")
