"""A small Lightning module and its trainer; importing this takes seconds, so tests do it late."""

import logging
import warnings

import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.studies.neuron_axes.torchvision_models import import_torchvision

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import_torchvision()  # which Lightning imports
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint  # noqa: F401
    from lightning.pytorch.loggers import CSVLogger  # noqa: F401

from tensorstate_gpu.training import EfficiencyMonitor  # noqa: F401
from tests.support.training_loops import batch, network

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Net(pl.LightningModule):
    """Uses its network without a call of itself, as many modules do."""

    def __init__(self):
        super().__init__()
        self.net = network()
        self.passes = {"train": 0, "eval": 0}  # of inputs, without the sanity check

    def training_step(self, x, number):
        self.passes["train"] += len(x[0])
        return self.net(x[0]).square().mean()

    def validation_step(self, x, number):
        if not self.trainer.sanity_checking:
            self.passes["eval"] += len(x[0])
        self.net(x[0])

    def test_step(self, x, number):
        self.net(x[0])

    def predict_step(self, x, number):
        return self.net(x[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Several(Net):
    """Takes several loaders of validation."""

    def validation_step(self, x, number, dataloader_idx):
        super().validation_step(x, number)


class Late(Net):
    def __init__(self):
        super().__init__()
        self.net = None

    def configure_model(self):
        if self.net is None:
            self.net = network()


def loader(inputs=48, size=8):
    return DataLoader(TensorDataset(batch(0, inputs)), batch_size=size)


def trainer(folder, *callbacks, **options):
    defaults = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
    }
    return pl.Trainer(callbacks=[*callbacks], default_root_dir=folder, **{**defaults, **options})
