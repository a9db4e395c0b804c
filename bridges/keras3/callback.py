"""Keras 3: StateEfficiency, a callback of fit() that adds the efficiency of layers to the logs."""

from contextlib import ExitStack
from typing import Any, Literal

try:
    import keras
except ImportError as error:
    raise ImportError("StateEfficiency needs Keras: pip install keras tensorflow") from error

from tensorstate_gpu._arguments import positive_integer
from tensorstate_gpu._arrays.firing_function import FiringFunction
from tensorstate_gpu._capturing.attachment import Method, plan_attachment
from tensorstate_gpu._capturing.choosing import as_patterns
from tensorstate_gpu._capturing.options import CaptureKeywords, CaptureOptions, NeuronAxis
from tensorstate_gpu._capturing.run import Run
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu.training.monitor_options import check_without_model, checked_sampling
from tensorstate_gpu.training.scalars import Scalars, phase_scalars

from . import models
from .points import KerasPoint


class StateEfficiency(keras.callbacks.Callback):  # type: ignore[misc]
    """Adds the efficiency of layers, and other measures, to the logs of each epoch.

    ``efficiency``, ``efficiency/<layer>``, ``entropy/<layer>``, ... are those of training, in all
    passes of the epoch that ``train_step()`` runs, whatever ``training`` it passes;
    ``val_efficiency``, ... are those of the validation. Callbacks that come later in the list find
    them in their logs: History, TensorBoard, EarlyStopping, ...

    The model is captured in place while it is fitted or evaluated, without eager execution.

    Parameters
    ----------
    attach_to, exclude : str, class, predicate, layer or a list of these
        Which layers to capture; as for build_efficiency_model.
    every_n_steps : int
        Capture the first batch of each epoch, and every so many; by default, all. Of several
        batches that Keras runs as one (``steps_per_execution``), all or none. Validation and
        evaluation are captured as a whole.
    states_per_step : int, optional
        Take at most so many states of each layer and batch, as StateMonitor does: those of whole
        inputs where they fit, else evenly spaced ones. By default, all.
    update_freq : "epoch", "batch" or int
        When measures are added to the logs: at the end of each epoch, and also of each batch, or of
        every so many, as those of keras.callbacks.TensorBoard.
    mask : str or True, optional
        The input of the model that is its mask (inputs, positions), or True for the masks that
        Keras makes itself: states of padding are not captured. As for CapturePoint.
    method, threshold, firing, neuron_axis
        As for build_efficiency_model.

    Raises
    ------
    TypeError, ValueError
        For arguments that fit no model; when fit() begins, for those that do not fit this one.

    Notes
    -----
    ``model.fit(x, y, callbacks=[StateEfficiency("Dense")])``.
    """

    __module__ = "tensorstate_gpu.training"

    def __init__(
        self,
        attach_to: object = None,
        exclude: object = (),
        *,
        every_n_steps: int = 1,
        states_per_step: int | None = None,
        update_freq: int | Literal["epoch", "batch"] = "epoch",
        mask: str | Literal[True] | None = None,
        method: Method = "after",
        threshold: object = 0.0,
        firing: FiringFunction | None = None,
        neuron_axis: NeuronAxis | None = None,
    ) -> None:
        super().__init__()
        self._attach_to, self._exclude = as_patterns(attach_to), as_patterns(exclude)
        self._method = method
        self._options: CaptureKeywords = {
            "keep": "counts",
            "mask": mask,
            "threshold": threshold,
            "firing": firing,
            "neuron_axis": neuron_axis,
        }
        sampling = {"every_n_steps": every_n_steps, "states_per_step": states_per_step}
        check_without_model(self._attach_to, self._exclude, {"method": method, **sampling})
        CaptureOptions(**self._options)  # raises now, not when the training begins
        checked = checked_sampling(sampling)
        self._every_n_steps: int = checked["every_n_steps"]
        self._states_per_step: int | None = checked["states_per_step"]
        self._pause = ExitStack()
        self._every = _checked_frequency(update_freq)
        self._run = Run()
        self._counts: dict[str, StateCounts] = {}  # of training, before the validation that runs
        self._validation: Scalars = {}
        self._batches = 0
        self._is_training = False

    @property
    def run(self) -> Run:
        """The capture points, with the states since the last epoch or validation began."""
        return self._run

    def passed_over(self, name: str) -> int:
        """Return how many states of a layer ``states_per_step`` has left out, as in ``run``."""
        point = self._run[name]
        assert isinstance(point, KerasPoint)
        return point.passed_over

    def set_model(self, model: Any) -> None:
        """Attach capture points: here, because fit() takes its traced function after this."""
        super().set_model(model)
        self._detach()  # what a fit() that failed has left
        attachment = plan_attachment(
            model, self._attach_to, self._exclude, self._method, **self._options
        )
        points = models.attach_in_place(model, attachment.chosen, self._method, attachment.options)
        for point in points:
            point.states_per_pass = self._states_per_step
        self._run = Run(points)

    def _detach(self) -> None:
        self._pause.close()
        models.detach(self._run.values())

    # ---- training ------------------------------------------------------------------------------

    def on_train_begin(self, logs: Scalars | None = None) -> None:
        self._is_training, self._batches = True, 0
        self._want(training=True)

    def _want(self, *, training: bool) -> None:
        """Capture passes of the training, or of an evaluation, and no others.

        Other callbacks may evaluate the model in between.
        """
        for point in self._run.values():
            assert isinstance(point, KerasPoint)
            if point.model_passes is not None:
                point.model_passes.wants_training = training

    def on_epoch_begin(self, epoch: int, logs: Scalars | None = None) -> None:
        self._run.reset()
        self._counts, self._validation = {}, {}

    def on_train_batch_begin(self, batch: int, logs: Scalars | None = None) -> None:
        together = self.model.steps_per_execution or 1
        self._pause.close()
        if -batch % self._every_n_steps >= together:
            self._pause.enter_context(self._run.paused())

    def on_train_batch_end(self, batch: int, logs: Scalars | None = None) -> None:
        self._batches += 1
        if logs is not None and self._every is not None and self._batches % self._every == 0:
            logs.update(phase_scalars("", self._counts_so_far()))

    def on_epoch_end(self, epoch: int, logs: Scalars | None = None) -> None:
        if logs is not None:
            logs.update(phase_scalars("", self._counts_so_far()))
            logs.update(self._validation)

    def on_train_end(self, logs: Scalars | None = None) -> None:
        self._is_training = False
        self._detach()

    # ---- validation ----------------------------------------------------------------------------

    def on_test_begin(self, logs: Scalars | None = None) -> None:
        self._pause.close()
        self._counts = self._counts_so_far()
        self._run.reset()
        self._want(training=False)

    def on_test_end(self, logs: Scalars | None = None) -> None:
        prefix = "val_" if self._is_training else ""
        self._validation = phase_scalars(prefix, _counts_in(self._run))
        if self._is_training:
            self._run.reset()
            self._want(training=True)
            return
        if logs is not None:
            logs.update(self._validation)
        self._detach()

    def on_predict_end(self, logs: Scalars | None = None) -> None:
        self._detach()

    def _counts_so_far(self) -> dict[str, StateCounts]:
        """Return the counts of training in this epoch."""
        now = _counts_in(self._run)
        return {
            name: sum((part[name] for part in (self._counts, now) if name in part), start=0)  # type: ignore[misc]
            for name in {**self._counts, **now}
        }


def _counts_in(run: Run) -> dict[str, StateCounts]:
    return {point.name: point.histogram() for point in run.values() if point.state_count}


def _checked_frequency(update_freq: object) -> int | None:
    """Return after how many batches measures are due; None for those of epochs alone."""
    if isinstance(update_freq, str):
        if update_freq not in ("epoch", "batch"):
            raise ValueError(
                f'update_freq must be "epoch", "batch" or a number, got {update_freq!r}'
            )
        return None if update_freq == "epoch" else 1
    return positive_integer(update_freq, "update_freq")
