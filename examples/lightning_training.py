"""Lightning: a callback logs the efficiency of layers, and EarlyStopping follows it."""

import lightning.pytorch as pl
import matplotlib.pyplot as plt
import pandas as pd
import torch
from data import mnist
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tensorstate_gpu.training import EfficiencyMonitor

train, test = (
    TensorDataset(torch.from_numpy(x).flatten(1), torch.from_numpy(y).long()) for x, y in mnist(8)
)


class Digits(pl.LightningModule):
    def __init__(self):
        super().__init__()
        pixels = train.tensors[0].shape[1]
        self.net = nn.Sequential(nn.Linear(pixels, 24), nn.ReLU(), nn.Linear(24, 10))

    def training_step(self, batch, _):
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def validation_step(self, batch, _):
        x, y = batch
        self.log("accuracy", (self.net(x).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.003)


pl.seed_everything(0)
trainer = pl.Trainer(
    max_epochs=30,
    accelerator="cpu",
    logger=CSVLogger("."),
    log_every_n_steps=10,
    enable_progress_bar=False,
    enable_checkpointing=False,
    enable_model_summary=False,
    callbacks=[
        EfficiencyMonitor("ReLU", every_n_steps=10),
        # Stop when the layers no longer find other states for the images of the test set.
        EarlyStopping("eval/efficiency", mode="max", min_delta=0.002, patience=3),
    ],
)
trainer.fit(
    Digits(), DataLoader(train, batch_size=32, shuffle=True), DataLoader(test, batch_size=100)
)
metrics = trainer.callback_metrics
print(
    f"stopped after {trainer.current_epoch} epochs: accuracy {metrics['accuracy']:.1%}, efficiency "
    f"{metrics['train/efficiency']:.1%} in training, {metrics['eval/efficiency']:.1%} on the test "
    "set"
)

log = pd.read_csv(f"{trainer.logger.log_dir}/metrics.csv")
_, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for name, style in (("train/efficiency", "-"), ("eval/efficiency", "o--"), ("accuracy", "s:")):
    rows = log[["step", name]].dropna()
    ax.plot(rows["step"], 100 * rows[name], style, markersize=4, label=name)
ax.set(xlabel="step", ylabel="%", ylim=(0, 101))
ax.legend(frameon=False)
ax.figure.savefig("lightning_training.png", dpi=80)
