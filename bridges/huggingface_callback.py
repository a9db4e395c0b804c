"""Hugging Face: EfficiencyCallback, which adds the efficiency of layers to what a Trainer logs."""

from pathlib import Path
from typing import Any, Unpack

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise ImportError("EfficiencyCallback needs transformers: pip install transformers") from error
import torch

from tensorstate_gpu.training.epochs import MonitorOfTrainer
from tensorstate_gpu.training.monitor import StateMonitor
from tensorstate_gpu.training.monitor_options import MonitorKeywords


class EfficiencyCallback(TrainerCallback):
    """Adds the efficiency of layers, and other measures, to what a Trainer logs.

    They are in the entries that the trainer makes itself: ``efficiency``, ``efficiency/<layer>``,
    ... of some steps where it logs the loss, and ``eval_efficiency``, ... where it logs an
    evaluation. They are then also in the metrics of the evaluation, before a callback reads these:
    ``metric_for_best_model="efficiency"`` works, and so does EarlyStoppingCallback in any order.

    ``EfficiencyCallback(...).add_to(trainer)`` puts the callback before those that report to
    TensorBoard and others, which the trainer itself puts before its ``callbacks=``.

    The counts are in a file of each checkpoint. Without a window, those of training begin anew with
    each epoch; those of evaluation do with each evaluation.

    Parameters
    ----------
    attach_to, exclude : str, class, predicate or a list of these
        Layers of the model; as for build_efficiency_model.
    **options
        Those of StateMonitor: every_n_steps (optimizer steps), states_per_step, window, groups,
        method, threshold, firing, neuron_axis.

    Notes
    -----
    ``EfficiencyCallback("Linear").add_to(trainer)`` before ``trainer.train()``.
    """

    __module__ = "tensorstate_gpu.training"

    def __init__(
        self,
        attach_to: object = None,
        exclude: object = (),
        **options: Unpack[MonitorKeywords],
    ) -> None:
        self._own = MonitorOfTrainer(attach_to, exclude, **options)

    @property
    def monitor(self) -> StateMonitor | None:
        """The monitor of the model; None before the training."""
        return self._own.monitor

    def add_to(self, trainer: Any) -> None:
        """Add the callback to a Trainer, before all others."""
        callbacks = trainer.callback_handler.callbacks
        if self in callbacks:
            callbacks.remove(self)
        callbacks.insert(0, self)

    # ---- training ------------------------------------------------------------------------------

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        file = self._file(args, state)
        if state.global_step and file.exists():
            self._own.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        self._own.begin_training(kwargs["model"], state.global_step)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._own.begin_epoch(int(state.epoch or 0))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._own.step(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._own.end()

    # ---- logs ----------------------------------------------------------------------------------

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add measures to an entry of the log, and to the metrics of an evaluation, which it is."""
        logs: dict[str, float] = kwargs["logs"]
        monitor = self.monitor
        if monitor is None:
            return
        group = torch.distributed.group.WORLD if args.world_size > 1 else None
        if (prefix := _prefix_of_evaluation(logs)) is not None:
            scalars = monitor.phase_scalars("eval", prefix, group)
            monitor.reset("eval")
        elif "loss" in logs:
            scalars = monitor.phase_scalars("train", "", group)
        else:
            return
        logs.update(scalars)
        state.log_history[-1].update(scalars)

    # ---- checkpoints ---------------------------------------------------------------------------

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        file = self._file(args, state)
        if file.parent.exists():
            torch.save(self._own.state_dict(), file)

    def _file(self, args: TrainingArguments, state: TrainerState) -> Path:
        """Return the file of this rank in the checkpoint of a step."""
        rank = f"_{args.process_index}" if args.world_size > 1 else ""
        folder = Path(args.output_dir or ".", f"checkpoint-{state.global_step}")
        return folder / f"efficiency_monitor{rank}.pt"


def _prefix_of_evaluation(logs: dict[str, float]) -> str | None:
    """Return how the names of an evaluation's metrics begin, such as "eval_"; None for others."""
    ends = (name.removesuffix("runtime") for name in logs if name.endswith("_runtime"))
    return next((prefix for prefix in ends if prefix != "train_"), None)
