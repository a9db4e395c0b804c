"""The warnings of a capture, most of which name the layers that they are about."""

from tensorstate_gpu._warnings import warn_user
from tensorstate_gpu.errors import (
    BatchAxisWarning,
    GuessedAxisWarning,
    ShuffledInputsWarning,
    SkippedLayersWarning,
    UnmaskedLayerWarning,
)


def warn_of_steps(batch_axis: int, *, one_sequence: bool) -> None:
    """Issue a BatchAxisWarning.

    ``batch_axis``: where inputs were taken to be. ``one_sequence``: of steps, without a batch axis.
    """
    if one_sequence:
        warn_user(
            "a recurrent or attention layer is given one sequence without a batch axis: each of "
            f"its steps (axis {batch_axis}) counts as an input; give the model a batch of them",
            BatchAxisWarning,
        )
        return
    warn_user(
        "a recurrent or attention layer with batch_first=False reads its inputs along axis 1, and "
        f"steps along what is taken for the model's inputs (axis {batch_axis}): if the model is "
        "given (steps, inputs, ...), batch_axis=1 sets it; else the layer needs batch_first=True, "
        "unless the layer is meant to look across inputs",
        BatchAxisWarning,
    )


def warn_of_unmasked(layers: list[str]) -> None:
    """Issue an UnmaskedLayerWarning that names the layers."""
    warn_user(
        f"the mask does not apply to {_listed(layers)}: all rows are captured",
        UnmaskedLayerWarning,
    )


def warn_of_no_mask(models: list[str]) -> None:
    """Issue an UnmaskedLayerWarning that names models of which a pass has no mask."""
    warn_user(
        f"no mask was given to {_listed(models)}: all rows are captured", UnmaskedLayerWarning
    )


def warn_of_guesses(layers: list[str]) -> None:
    """Issue a GuessedAxisWarning that names the layers."""
    warn_user(
        f"the neuron axis is a guess for {_listed(layers)}: neuron_axis= sets it",
        GuessedAxisWarning,
    )


def warn_of_contradicted(layers: list[str]) -> None:
    """Issue a GuessedAxisWarning that names the layers."""
    warn_user(
        "neurons lie along another axis than in earlier passes, or are not always as many; these "
        f"layers are left out of such passes: {_listed(layers)}; neuron_axis= sets the axis",
        GuessedAxisWarning,
    )


def warn_of_skipped(layers: list[str]) -> None:
    """Issue a SkippedLayersWarning that names the layers."""
    warn_user(
        f"these layers pass nothing that has neurons, and are skipped: {_listed(layers)}",
        SkippedLayersWarning,
    )


def warn_of_later_calls(layers: list[str]) -> None:
    """Issue a SkippedLayersWarning that names the layers."""
    warn_user(
        "these layers are called several times in a pass, and earlier passes did not show it: with "
        "stage_rows=, only their first call is captured, or all with merge_calls=True: "
        + _listed(layers),
        SkippedLayersWarning,
    )


def warn_of_indices(points: list[str]) -> None:
    """Issue a SkippedLayersWarning that names the capture points that there are not."""
    warn_user(
        "the inputs of embeddings are indices, which have no neurons, and are not captured: "
        + _listed(points),
        SkippedLayersWarning,
    )


def warn_of_shuffled(layer: str) -> None:
    """Issue a ShuffledInputsWarning that names the layer."""
    warn_user(
        f"{layer}: fit() has shuffled the inputs, so their positions and labels do not belong to "
        "the states; pass shuffle=False to fit(), or capture predict()",
        ShuffledInputsWarning,
    )


def warn_of_shared_calls(layer: str) -> None:
    """Issue a warning that names a layer whose inputs may be counted several times."""
    warn_user(
        f"{layer}: several calls in a pass share this capture point, and each counts its inputs; "
        "if they are the same, errors and intervals are too small: run.labels(units=...) tells "
        "which belong together"
    )


def _listed(layers: list[str], shown: int = 10) -> str:
    more = f" and {len(layers) - shown} more" if len(layers) > shown else ""
    return ", ".join(layers[:shown]) + more
