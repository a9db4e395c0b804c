"""Hugging Face: EfficiencyCallback, which adds the efficiency of layers to what a Trainer logs."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise ImportError("EfficiencyCallback needs transformers: pip install transformers") from error
import torch

from tensorstate_gpu._capturing.sampling import EVAL, TRAIN
from tensorstate_gpu._warnings import warn_user
from tensorstate_gpu.training.epochs import MonitorOfTrainer
from tensorstate_gpu.training.monitor import StateMonitor
from tensorstate_gpu.training.monitor_options import MonitorKeywords
from tensorstate_gpu.training.scalars import Scalars

_PREDICTION = "test"  # the phase of Trainer.predict()
_FILE = "efficiency_monitor"  # in a checkpoint, with the number of the rank if there are several


class EfficiencyCallback(TrainerCallback):
    """Adds the efficiency of layers, and other measures, to what a Trainer logs.

    They are in the entries that the trainer makes itself: ``efficiency``, ``efficiency/<layer>``,
    ... of some steps where it logs the loss, and ``eval_efficiency``, ... where it logs an
    evaluation. They are then also in the metrics of the evaluation, before a callback reads these:
    ``metric_for_best_model="efficiency"`` works, and so does EarlyStoppingCallback in any order.

    ``EfficiencyCallback(...).add_to(trainer)`` puts the callback before those that report to
    TensorBoard and others, which the trainer itself puts before its ``callbacks=``. It also lets
    the callback know when an evaluation or a prediction begins, so that these are captured before
    and after the training, too: ``trainer.evaluate()`` returns ``eval_efficiency``, ...

    The counts are in a file of each checkpoint, one for each rank. Without a window, those of
    training begin anew with each epoch; those of evaluation do with each evaluation.

    Parameters
    ----------
    attach_to, exclude : str, class, predicate or a list of these
        Layers of the model; as for build_efficiency_model.
    **options
        Those of StateMonitor: every_n_steps (optimizer steps), states_per_step, window, phases,
        groups, stage_rows, method, threshold, firing, neuron_axis.

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
        self._evaluated: StateMonitor | None = None  # that of the last evaluation, until it is read
        self._begins = True  # a training, whose first epoch may have been interrupted
        self._has_warned = False

    @property
    def monitor(self) -> StateMonitor | None:
        """The monitor of the model; None before the training."""
        return self._own.monitor

    def add_to(self, trainer: Any) -> None:
        """Add the callback to a Trainer, before all others, and let it know of evaluations."""
        callbacks = trainer.callback_handler.callbacks
        if self in callbacks:
            callbacks.remove(self)
        callbacks.insert(0, self)
        if not _captures(trainer.evaluation_loop, self):
            trainer.evaluation_loop = _CapturedLoop(trainer.evaluation_loop, trainer, self)

    @contextmanager
    def capturing(self, model: object, phase: str) -> Iterator[None]:
        """Capture all passes of a model in a ``with`` block as those of a phase, which begins."""
        self._evaluated = None
        if not self._own.captures(EVAL):
            yield
            return
        with self._own.in_block(model) as monitor:
            self._evaluated = monitor
            monitor.reset(phase)
            with monitor.during(phase):
                yield

    # ---- training ------------------------------------------------------------------------------

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step:
            self._go_on(args, state)
        self._own.begin_training(kwargs["model"], state.global_step)
        self._begins = True

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # Of data without a length, the trainer's epoch is known after the first step of it only.
        number = int(state.epoch or 0) if self._begins else self._own.epoch + 1
        self._begins = False
        self._own.begin_epoch(number)

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
        if (prefix := _prefix_of_evaluation(logs)) is not None:
            scalars = self._scalars_of(EVAL, prefix, args)
            if not scalars:
                self._warn_of_no_evaluation()
        elif "loss" in logs and self.monitor is not None:
            scalars = self.monitor.phase_scalars(TRAIN, "", _group(args))
        else:
            return
        logs.update(scalars)
        state.log_history[-1].update(scalars)

    def on_predict(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **kwargs: Any,
    ) -> None:
        """Add measures to the metrics of a prediction."""
        if (prefix := _prefix_of_evaluation(metrics)) is not None:
            metrics.update(self._scalars_of(_PREDICTION, prefix, args))

    def _scalars_of(self, phase: str, prefix: str, args: TrainingArguments) -> Scalars:
        """Return the measures of a phase, whose counts begin anew then."""
        monitor = self.monitor if self._evaluated is None else self._evaluated
        self._evaluated = None
        if monitor is None:
            return {}
        scalars = monitor.phase_scalars(phase, prefix, _group(args))
        monitor.reset(phase)
        return scalars

    def _warn_of_no_evaluation(self) -> None:
        if not (self._has_warned or self._own.is_at_model) and self._own.captures(EVAL):
            self._has_warned = True
            warn_user(
                "EfficiencyCallback captured nothing of an evaluation. Outside of train(), it "
                "needs EfficiencyCallback(...).add_to(trainer) instead of callbacks=[...]"
            )

    # ---- checkpoints ---------------------------------------------------------------------------

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        folder = _checkpoint(args, state)
        if not folder.exists():
            return
        names = [_file_name(rank, args.world_size) for rank in range(args.world_size)]
        torch.save(self._own.state_dict(), folder / names[args.process_index])
        if args.process_index == 0:
            for file in _files_of(folder):  # an earlier training of other ranks has left some
                if file.name not in names:
                    file.unlink()

    def _go_on(self, args: TrainingArguments, state: TrainerState) -> None:
        """Go on with this rank's share of the counts in the checkpoint that a training resumes."""
        folder, given = _checkpoint(args, state), args.resume_from_checkpoint
        if not _files_of(folder) and given and Path(given).name == folder.name:
            folder = Path(given)
        if not (files := _files_of(folder)):
            warn_user(
                f"EfficiencyCallback: the training goes on from step {state.global_step}, but "
                f"{folder} has no counts, so they begin anew. Of a checkpoint elsewhere, tell "
                "TrainingArguments(resume_from_checkpoint=...), too"
            )
        own = _share_of(files, args.process_index, args.world_size)
        states = [torch.load(file, map_location="cpu", weights_only=True) for file in own]
        self._own.load_share({"ranks": states}, 0, 1)


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir or ".", f"checkpoint-{state.global_step}")


def _file_name(rank: int, ranks: int) -> str:
    return f"{_FILE}_{rank}.pt" if ranks > 1 else f"{_FILE}.pt"


def _share_of(files: Mapping[Path, int], rank: int, ranks: int) -> list[Path]:
    """Return which files of a checkpoint a rank goes on with.

    By their numbers: where nodes share no folder, each has those of its own ranks.
    """
    return [file for file, number in files.items() if number % ranks == rank]


def _files_of(folder: Path) -> dict[Path, int]:
    """Return the files with counts of a checkpoint, and the ranks that wrote them, in order."""
    found = {}
    for file in folder.glob(f"{_FILE}*.pt"):
        if own := re.fullmatch(rf"{_FILE}(?:_(\d+))?", file.stem):
            found[file] = int(own[1] or 0)
    return dict(sorted(found.items(), key=lambda item: item[1]))


@dataclass
class _CapturedLoop:
    """The evaluation loop of a trainer, whose passes a callback captures.

    Trainers tell callbacks of an evaluation when its first batch is over.
    """

    loop: Callable[..., Any]
    trainer: Any
    callback: EfficiencyCallback

    def __call__(self, dataloader: Any, description: str, *args: Any, **kwargs: Any) -> Any:
        phase = _PREDICTION if description == "Prediction" else EVAL
        with self.callback.capturing(self.trainer.model, phase):
            return self.loop(dataloader, description, *args, **kwargs)


def _captures(loop: object, callback: EfficiencyCallback) -> bool:
    """Return whether a callback captures the passes of an evaluation loop already."""
    while isinstance(loop, _CapturedLoop):
        if loop.callback is callback:
            return True
        loop = loop.loop
    return False


def _group(args: TrainingArguments) -> object:
    """Return the ranks whose counts are merged; None if there is one."""
    return torch.distributed.group.WORLD if args.world_size > 1 else None


def _prefix_of_evaluation(logs: dict[str, float]) -> str | None:
    """Return how the names of an evaluation's metrics begin, such as "eval_"; None for others."""
    ends = (name.removesuffix("runtime") for name in logs if name.endswith("_runtime"))
    return next((prefix for prefix in ends if prefix != "train_"), None)
