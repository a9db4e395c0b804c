"""What the study finds in one model, as JSON: the truth compared with what the library takes."""

import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .captured import Taken, taken_axes
from .keras_models import keras_axes
from .models import Published
from .passes import leaf_layers
from .truth import Truth, true_axes


def findings(published: Published) -> dict[str, Any]:
    """Return the findings about a model; if it cannot be built or run, the error.

    right      calls whose true axis was taken
    wrong      calls in which another was taken, each with its origin
    raised     calls that could not be captured
    undecided  verdict -> calls in which no single axis holds the neurons (truth.py)
    """
    begun = time.perf_counter()
    try:
        found = _compared(published)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {str(error).strip()[:300]}"
        found = {
            "error": message,
            "at": f"{'/'.join(Path(where.filename).parts[-3:])}:{where.lineno}",
        }
    return {**found, "seconds": round(time.perf_counter() - begun, 1)}


def _axes(published: Published) -> tuple[list[Truth], Callable[[Truth], Taken], dict[str, str]]:
    """Return the truth about each call, what was taken for it, and the classes of the layers."""
    if published.library == "keras":
        truths, axes, classes = keras_axes(published.name)
        missing = Taken(None, "raised", "nothing was captured")
        return truths, lambda truth: axes.get(truth.layer, missing), classes
    model, inputs = published.build()
    taken = taken_axes(model, inputs)
    classes = {name: type(layer).__name__ for name, layer in leaf_layers(model).items()}
    truths = true_axes(model, inputs)
    return truths, lambda call: taken.of(call.layer, call.number, len(call.shape)), classes


def _compared(published: Published) -> dict[str, Any]:
    truths, taken, classes = _axes(published)
    right: Counter[str] = Counter()
    undecided: Counter[str] = Counter()
    wrong, raised = [], []
    for truth in truths:
        ours = taken(truth)
        about = {
            "layer": truth.layer,
            "call": truth.number + 1,
            "class": classes[truth.layer],
            "shape": list(truth.shape),
        }
        if ours.origin == "raised":
            raised.append({**about, "problem": ours.problem})
        elif truth.verdict != "known":
            undecided[f"{truth.verdict}, {ours.origin}"] += 1
        elif truth.axes == (ours.axis,):
            right[ours.origin] += 1
        else:
            wrong.append(
                {**about, "true": truth.axes[0], "taken": ours.axis, "origin": ours.origin}
            )
    return {
        "calls": len(truths),
        "right": dict(right),
        "wrong": wrong,
        "raised": raised,
        "undecided": dict(undecided),
    }
