"""StepWarnings: what a monitor says, once each, of steps that it captures less of than it seems."""

from collections.abc import Collection

from tensorstate_gpu._capturing.sampling import EVAL, Switch
from tensorstate_gpu._warnings import warn_user
from tensorstate_gpu.training.step_sampler import StepSampler


class StepWarnings:
    """Looks at the steps of a monitor, and warns once of each kind of mistake.

    ``layers``: the names of its capture points. ``phases``: which passes it captures.
    """

    def __init__(
        self, sampler: StepSampler, switch: Switch, layers: Collection[str], phases: Collection[str]
    ) -> None:
        self._sampler, self._switch = sampler, switch
        self._layers, self._phases = layers, phases
        self._told: set[object] = set()
        self._failed = 0  # passes, up to the last step

    def once(self, key: object, message: str, kind: type[Warning] = UserWarning) -> None:
        """Warn, unless something with this key has been said."""
        if key not in self._told:
            self._told.add(key)
            warn_user(message, kind)

    def at_end_of_step(self, *, alone: bool) -> None:
        """Look at a step that ends. ``alone``: whether it is one, and not several."""
        self._look_for_failed_passes()
        if alone and self._sampler.passes_seen:
            self._look_for_replaced_layers()
        elif alone and self._sampler.wants_now():
            self._say_that_nothing_ran()

    def forget_failed_passes(self) -> None:
        """Say nothing of passes that have failed so far."""
        self._failed = self._switch.failed_passes()

    def _look_for_failed_passes(self) -> None:
        before = self._failed
        self.forget_failed_passes()
        if self._failed > before and self._sampler.passes_seen:
            self.once(
                "failed",
                "a forward pass of a captured step has failed: the StateMonitor counts its states "
                "of the layers that had run by then, and the other layers have none of it",
            )

    def _say_that_nothing_ran(self) -> None:
        cause = (
            "no layer that it captures ran. A model that has been replaced needs a new monitor"
            if self._switch.is_model_alive()
            else "its model no longer exists. The model that is trained now needs a new monitor"
        )
        self.once("nothing ran", f"the StateMonitor captured nothing: {cause}")

    def _look_for_replaced_layers(self) -> None:
        for name in () if self._sampler.got_all(self._layers) else self._switch.replaced():
            self.once(
                name,
                f"the StateMonitor captures no more of {name}: the layer has left the model, which "
                "needs a new monitor as it is now",
            )

    def look_for_missing_steps(self) -> None:
        """Look whether passes are left out of a step that nobody ends."""
        if self._sampler.was_full and not self._sampler.has_stepped:
            self.once(
                "no step",
                "step() of the StateMonitor has not been called: all passes of training so far "
                "count as one step, and states_per_step leaves out later ones. Call it after each "
                "step of the optimizer; of a model in evaluation mode, each pass is a step",
            )

    def look_for_missed_passes(self) -> None:
        """Look whether passes ran unnoticed before a step that begins."""
        if EVAL in self._phases and self._switch.missed_passes():
            self.once(
                "missed",
                "a compiled model ran in evaluation mode between two captured steps, where the "
                'StateMonitor does not notice it: use `with monitor.during("eval"):`',
            )
