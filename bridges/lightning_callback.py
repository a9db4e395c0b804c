"""Lightning: EfficiencyMonitor, a callback that logs the efficiency of layers during training."""

import os
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Unpack

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.utilities.model_helpers import is_overridden
except ImportError as error:
    raise ImportError("EfficiencyMonitor needs Lightning: pip install lightning") from error
import torch

from tensorstate_gpu.training.epochs import MonitorOfTrainer
from tensorstate_gpu.training.monitor import StateMonitor
from tensorstate_gpu.training.monitor_options import MonitorKeywords


class EfficiencyMonitor(Callback):
    """Logs the efficiency of layers, and other measures, from some steps of the training.

    Those of training are logged as ``train/efficiency``, ``train/efficiency/<layer>``, ... after
    each captured step; those of validation as ``eval/...`` and of testing as ``test/...`` at the
    end. Without a window, the counts of training begin anew with each epoch, and those of
    validation with each validation. They are in the checkpoints of the trainer.

    Parameters
    ----------
    attach_to, exclude : str, class, predicate or a list of these
        Layers of the LightningModule; as for build_efficiency_model.
    **options
        Those of StateMonitor: every_n_steps (of ``trainer.global_step``), states_per_step, window,
        groups, method, threshold, firing, neuron_axis.

    Notes
    -----
    ``Trainer(callbacks=[EfficiencyMonitor("Linear")])``.
    """

    __module__ = "tensorstate_gpu.training"

    def __init__(
        self,
        attach_to: object = None,
        exclude: object = (),
        **options: Unpack[MonitorKeywords],
    ) -> None:
        self._own = MonitorOfTrainer(attach_to, exclude, **options)
        self._key = self._generate_state_key(attach_to=repr(attach_to), exclude=repr(exclude))
        self._block = ExitStack()
        # Where a process that the trainer starts, and to which this callback is copied, leaves its
        # counts for this one: strategies that spawn return nothing of a callback.
        self._process = os.getpid()
        self._home = Path(tempfile.gettempdir(), f"tensorstate_gpu-{uuid.uuid4().hex}.pt")

    @property
    def monitor(self) -> StateMonitor | None:
        """The monitor of the model; None before the trainer has one."""
        return self._own.monitor

    @property
    def state_key(self) -> str:
        return self._key

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._fetch()
        if not is_overridden("configure_model", pl_module):  # which makes the layers later
            self._own.begin(pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._block.close()
        self._own.end()
        if os.getpid() != self._process:
            state = self._state(trainer)
            if trainer.is_global_zero:
                torch.save(state, self._home)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._block.close()

    # ---- training ------------------------------------------------------------------------------

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._own.begin(pl_module)

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._block.enter_context(self._own.begin(pl_module).paused())

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._block.close()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._own.begin_training(pl_module, trainer.global_step)  # which a checkpoint has restored
        # After a checkpoint of an epoch's end, Lightning does not say that the next epoch begins.
        self._own.begin_epoch(trainer.current_epoch)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._own.begin_epoch(trainer.current_epoch)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        if self._own.step(trainer.global_step):
            self._log(trainer, pl_module, "train", on_step=True)

    # ---- validation and testing ----------------------------------------------------------------

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._begin("eval", pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._end("eval", trainer, pl_module)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin("test", pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end("test", trainer, pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._block.enter_context(self._own.begin(pl_module).paused())

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._block.close()

    def _begin(self, phase: str, pl_module: LightningModule) -> None:
        monitor = self._own.begin(pl_module)
        monitor.reset(phase)
        self._block.enter_context(monitor.during(phase))

    def _end(self, phase: str, trainer: Trainer, pl_module: LightningModule) -> None:
        self._block.close()
        self._log(trainer, pl_module, phase, on_step=False)

    def _log(
        self, trainer: Trainer, pl_module: LightningModule, phase: str, *, on_step: bool
    ) -> None:
        # The counts of all ranks: the mean of the ranks' measures is not the measure.
        group = torch.distributed.group.WORLD if trainer.world_size > 1 else None
        assert self.monitor is not None
        scalars = self.monitor.phase_scalars(phase, f"{phase}/", group)
        pl_module.log_dict(scalars, on_step=on_step, on_epoch=not on_step)

    # ---- checkpoints ---------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        self._fetch()
        return self._own.state_dict()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the counts of all ranks in place of those of the rank that writes the checkpoint."""
        if trainer.world_size > 1 and (state := self._state(trainer)):
            checkpoint["callbacks"][self.state_key] = state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        group = _all_ranks()
        rank, ranks = (0, 1) if group is None else (group.rank(), group.size())
        self._own.load_share(state_dict, rank, ranks)

    def _state(self, trainer: Trainer) -> dict[str, Any]:
        """Return the counts of all ranks at the first. Collective."""
        if trainer.world_size == 1:
            return self._own.state_dict()
        return self._own.state_of_ranks(torch.distributed.group.WORLD)

    def _fetch(self) -> None:
        """Take the counts of a process that the trainer has started."""
        if os.getpid() == self._process and self._home.exists():
            self.load_state_dict(torch.load(self._home, weights_only=True))
            self._home.unlink()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_block": ExitStack()}


def _all_ranks() -> "torch.distributed.ProcessGroup | None":
    """Return the group of all ranks of this job; None if there is one process."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    return distributed.group.WORLD
