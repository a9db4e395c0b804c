"""Charts of efficiency during training, by a loop of one's own and by each callback.

``python -m benchmarks.studies.training_charts`` trains a small network on digits four times, each
in a process of its own, in which a framework writes event files of TensorBoard: the monitor's
scalars beside its own. Then it draws what these files have: ``docs/figures/training.png``, which
docs/training.md shows.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.studies.neuron_axes.torchvision_models import import_torchvision

PICTURE = Path(__file__).parents[2] / "docs/figures/training.png"
EPOCHS, BATCH, HIDDEN = 6, 32, 24
# What the chart of each training shows: a word for each curve, its folder and its tag.
OF_TORCH = {"train": ("", "train/efficiency"), "eval": ("", "eval/efficiency")}
CHARTS = {
    "own loop": OF_TORCH,
    "Lightning": OF_TORCH,
    "Hugging Face": OF_TORCH,
    "Keras": {"train": ("train", "epoch_efficiency"), "eval": ("validation", "epoch_efficiency")},
}


def digits() -> tuple[Any, Any, Any, Any]:
    """Images (n, 64) and labels, of the training and of the test set."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x, y = (found.data / 16).astype("float32"), found.target.astype("int64")
    return x[:-500], y[:-500], x[-500:], y[-500:]


def torch_parts() -> tuple[Any, Any, Any]:
    """A network, and the training and the test set."""
    import torch
    from torch import nn
    from torch.utils.data import TensorDataset

    torch.manual_seed(0)
    x, y, test_x, test_y = map(torch.from_numpy, digits())
    net = nn.Sequential(nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))
    return net, TensorDataset(x, y), TensorDataset(test_x, test_y)


def own_loop(folder: str) -> None:
    import torch
    from torch.utils.data import DataLoader
    from torch.utils.tensorboard import SummaryWriter

    import tensorstate_gpu as ts

    net, train, test = torch_parts()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.003)
    monitor = ts.StateMonitor(net, "ReLU", every_n_steps=8, window=5)
    with SummaryWriter(folder) as writer:
        for _ in range(EPOCHS):
            for x, y in DataLoader(train, batch_size=BATCH, shuffle=True):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(net.train()(x), y).backward()
                optimizer.step()
                monitor.step()
            monitor.reset("eval")
            net.eval()(test.tensors[0])
            monitor.log(writer)


def lightning(folder: str) -> None:
    import_torchvision()  # which Lightning imports
    import lightning.pytorch as pl
    import torch
    from lightning.pytorch.loggers import TensorBoardLogger
    from torch.utils.data import DataLoader

    from tensorstate_gpu.training import EfficiencyMonitor

    net, train, test = torch_parts()

    class Digits(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def training_step(self, batch: Any, _: int) -> Any:
            return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            self.net(batch[0])

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=0.003)

    pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=TensorBoardLogger(folder),
        log_every_n_steps=8,
        enable_progress_bar=False,
        enable_checkpointing=False,
        callbacks=[EfficiencyMonitor("ReLU", every_n_steps=8, window=5)],
    ).fit(Digits(), DataLoader(train, BATCH, shuffle=True), DataLoader(test, 100))


def hugging_face(folder: str) -> None:
    import_torchvision()  # which its Trainer imports
    import torch
    import transformers

    from tensorstate_gpu.training import EfficiencyCallback

    net, train, test = torch_parts()

    class Digits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Any, labels: Any) -> dict[str, Any]:
            logits = self.net(x)
            loss = torch.nn.functional.cross_entropy(logits, labels)
            return {"loss": loss, "logits": logits}

    os.environ["TENSORBOARD_LOGGING_DIR"] = folder
    sets = [
        [{"x": x, "labels": int(label)} for x, label in zip(*each.tensors, strict=True)]
        for each in (train, test)
    ]
    trainer = transformers.Trainer(
        Digits(),
        transformers.TrainingArguments(
            folder,
            num_train_epochs=EPOCHS,
            learning_rate=0.003,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=100,
            eval_strategy="epoch",
            save_strategy="no",
            logging_steps=8,
            report_to=["tensorboard"],
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=sets[0],
        eval_dataset=sets[1],
    )
    EfficiencyCallback("ReLU", every_n_steps=8, window=5).add_to(trainer)
    trainer.train()


def keras_fit(folder: str) -> None:
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras

    from tensorstate_gpu.training import StateEfficiency

    x, y, test_x, test_y = digits()
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(HIDDEN, "relu", name="hidden")
    model = keras.Sequential([keras.Input((64,)), hidden, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.003), loss)
    callbacks = [StateEfficiency("hidden", every_n_steps=8), keras.callbacks.TensorBoard(folder)]
    model.fit(
        *(x, y),
        validation_data=(test_x, test_y),
        batch_size=BATCH,
        epochs=EPOCHS,
        callbacks=callbacks,
        verbose=0,
    )


TRAININGS = {
    "own loop": own_loop,
    "Lightning": lightning,
    "Hugging Face": hugging_face,
    "Keras": keras_fit,
}


def scalars_in(folder: Path, tag: str) -> tuple[list[int], list[float]]:
    """The steps and the values of a tag, in whatever event file has it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    steps: list[int] = []
    values: list[float] = []
    for file in sorted(folder.rglob("*tfevents*")):
        events = EventAccumulator(str(file))
        events.Reload()
        if tag in events.Tags()["scalars"]:
            found = [(event.step, event.value) for event in events.Scalars(tag)]
        elif tag in events.Tags()["tensors"]:  # Keras'
            found = [(e.step, float(make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)]
        else:
            continue
        steps += [step for step, _ in found]
        values += [value for _, value in found]
    if not values:
        raise ValueError(f"no event file in {folder} has {tag}")
    return steps, values


def draw(folder: Path, picture: Path) -> None:
    """Draw a chart of each training beside the others."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, all_axes = plt.subplots(1, len(CHARTS), figsize=(11, 2.6), sharey=True)
    for axes, (name, tags) in zip(np.atleast_1d(all_axes), CHARTS.items(), strict=True):
        for word, (part, tag) in tags.items():
            steps, values = scalars_in(folder / name / part, tag)
            axes.plot(steps, [100 * value for value in values], ".-", label=word, linewidth=1)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("epoch" if name == "Keras" else "step")
    all_axes[0].set_ylabel("efficiency, %")
    all_axes[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(picture, dpi=110)


def main() -> None:
    if len(sys.argv) == 3:
        TRAININGS[sys.argv[1]](sys.argv[2])
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in TRAININGS:
            command = [sys.executable, "-m", "benchmarks.studies.training_charts", name]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}  # the layers are small
            subprocess.run([*command, str(Path(folder, name))], check=True, env=environment)
        draw(Path(folder), PICTURE)
    print(PICTURE)


if __name__ == "__main__":
    main()
