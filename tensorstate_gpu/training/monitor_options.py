"""The options of a monitor as keyword arguments, which callbacks pass on."""

from collections.abc import Sequence
from typing import TypedDict

from tensorstate_gpu._arrays.firing_function import FiringFunction
from tensorstate_gpu._capturing.attachment import Method
from tensorstate_gpu._capturing.options import NeuronAxis


class MonitorKeywords(TypedDict, total=False):
    """As for StateMonitor, which describes them."""

    every_n_steps: int
    states_per_step: int | None
    window: int | None
    phases: Sequence[str]
    groups: int | None
    stage_rows: int | None
    method: Method
    threshold: object
    firing: FiringFunction | None
    neuron_axis: NeuronAxis | None
