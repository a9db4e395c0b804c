"""The state of a monitor for checkpoints: integers, strings and tensors, which load safely."""

from collections.abc import Collection, Mapping, Sequence, Sized
from typing import Any

from tensorstate_gpu._arguments import integer
from tensorstate_gpu._arrays.saved_arrays import arrays_for_tensors, tensors_for_arrays
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


def loaded_windows(
    saved: Mapping[str, Mapping[str, Mapping[str, object]]], size: int | None, groups: int | None
) -> dict[str, dict[str, CountsWindow]]:
    """Return what saved_windows() has saved, from tensors on whatever device."""
    loaded: dict[str, dict[str, CountsWindow]] = {}
    for phase, layers in saved.items():
        loaded[phase] = {name: CountsWindow(size, groups) for name in layers}
        for name, state in layers.items():
            loaded[phase][name].load(arrays_for_tensors(dict(state)))
    return loaded


def together(states: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Return one state with the counts of several, of ranks of a job; nothing of none."""
    if not states:
        return {}
    groups = integer(states[0]["groups"], "groups") or None
    counts: dict[str, dict[str, CountsWindow]] = {}
    for state in states:
        for phase, layers in loaded_windows(state["counts"], None, groups).items():
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
    if (found := integer(state["format"], "format")) != FORMAT:
        raise ValueError(f"state has the format {found}; this version reads {FORMAT}")
    if missing := sorted(_PARTS - set(state)):
        raise ValueError(f"state is incomplete: it has no {', '.join(missing)}")
    there, due = how_many(state["counts"]), state.get("histograms")
    if due is not None and there != due:
        raise ValueError(
            f"state is incomplete: it has {there} histograms, and had {due} when it was saved. "
            "torch.distributed.checkpoint reads only what the monitor has already that loads it: "
            "give it the bytes of torch.save(monitor.state_dict(), file), by rank under another key"
        )
    saved = set(state["layers"])
    if saved != set(layers):
        more, fewer = sorted(saved - set(layers)), sorted(set(layers) - saved)
        raise ValueError(
            "state is of another model, or of other layers: "
            + "; ".join(
                f"{what} {', '.join(names)}"
                for what, names in (("only there are", more), ("only here are", fewer))
                if names
            )
        )
    for what, theirs, ours in (
        ("firing rule", state["firing"], rule),
        ("number of groups", state["groups"] or None, groups),
    ):
        if theirs != ours:
            raise ValueError(f"state has another {what}: {theirs}, here it is {ours}")
