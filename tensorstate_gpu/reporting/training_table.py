"""The scalars of a training as a tidy table: a row for each step, phase, measure and layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tensorstate_gpu._arguments import integer
from tensorstate_gpu.reporting.tidy_tables import Columns, as_arrow, as_pandas

if TYPE_CHECKING:
    import pandas
    import pyarrow

Log = Mapping[int, Mapping[str, float]]
MEASURES = ("efficiency", "entropy", "ceiling", "coverage", "dead_share")
# Names of phases and of layers may contain slashes, too.
_KEY = re.compile(f"(.+?)/({'|'.join(MEASURES)})(?:/(.+))?", re.DOTALL)


def training_to_pandas(log: Log) -> pandas.DataFrame:
    """Return the scalars of a training, with a row for each step, phase, measure and layer.

    Columns: ``step``, ``phase``, ``measure``, ``layer`` and ``value``: bits for "entropy", else
    from 0 to 1. The layer of the network's efficiency is None. Scalars of other names are left out.

    Parameters
    ----------
    log : mapping of step to scalars
        What `StateMonitor.scalars` returned at each step that counts: ``log[monitor.global_step]
        = monitor.scalars()``.

    Raises
    ------
    ImportError
        If pandas or pyarrow is not installed.
    TypeError
        If the log is not such a mapping.

    Examples
    --------
    >>> training_to_pandas({10: {"train/entropy/conv": 2.5, "loss": 0.3}}).values.tolist()
    [[10, 'train', 'entropy', 'conv', 2.5]]
    """
    return as_pandas(training_columns(log))


def training_to_arrow(log: Log) -> pyarrow.Table:
    """Return the table of training_to_pandas()."""
    return as_arrow(training_columns(log))


def training_columns(log: Log) -> Columns:
    """Return the table of training_to_pandas(), by its columns; steps ascend.

    Raises TypeError if this is no mapping of integers to mappings.
    """
    rows = [
        (step, *found.groups(), float(value))
        for step, scalars in sorted(_checked(log).items())
        for key, value in scalars.items()
        if value is not None and (found := _KEY.fullmatch(key))
    ]
    steps, phases, measures, layers, values = zip(*rows, strict=True) if rows else ((),) * 5
    return {
        "step": steps,
        "phase": phases,
        "measure": measures,
        "layer": layers,
        "value": values,
    }


def _checked(log: Log) -> Log:
    """Return a log whose steps are integers of Python."""
    if not (isinstance(log, Mapping) and all(isinstance(each, Mapping) for each in log.values())):
        raise TypeError(
            "the log of a training must be a mapping of step to scalars, as {monitor.global_step: "
            f"monitor.scalars()}}, got {type(log).__name__}"
        )
    return {integer(step, "step"): scalars for step, scalars in log.items()}
