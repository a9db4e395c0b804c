"""EfficiencyCallback: a callback of Hugging Face's Trainer."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.studies.neuron_axes.torchvision_models import import_torchvision

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import_torchvision()  # which both frameworks import
    import transformers
    from transformers import EarlyStoppingCallback, TrainerCallback

from tensorstate_gpu.training import EfficiencyCallback
from tests.support.torch_models import hooks_of
from tests.support.training_loops import batch

# Warnings of transformers are not ours to mend; ours are errors.
pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings("error:::tensorstate_gpu"),
]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.head = nn.Linear(6, 12), nn.Linear(12, 4)

    def forward(self, x, labels=None):
        logits = self.head(self.hidden(x).relu())
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


DATA = [{"x": x, "labels": i % 4} for i, x in enumerate(batch(0, 48))]


class Reporter(TrainerCallback):
    """Sees what TensorBoard would."""

    def __init__(self):
        self.seen = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.seen.append(dict(logs))


def trainer(folder, *callbacks, first=(), **options):
    defaults = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 8,
        "logging_steps": 2,
        "eval_strategy": "epoch",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
    }
    arguments = transformers.TrainingArguments(str(folder), **{**defaults, **options})
    made = transformers.Trainer(
        Net(), arguments, train_dataset=DATA, eval_dataset=DATA[:16], callbacks=[*callbacks]
    )
    for callback in first:
        callback.add_to(made)
    return made


def entries(trained, name):
    return [entry[name] for entry in trained.state.log_history if name in entry]


def test_logs_history_and_reporters(tmp_path):
    reporter, callback = Reporter(), EfficiencyCallback("Linear", every_n_steps=2)
    trained = trainer(tmp_path, reporter, first=[callback])
    trained.train()
    monitor = callback.monitor
    assert monitor.global_step == 12
    assert monitor.counts("hidden").total == 3 * 8  # of the second epoch
    assert hooks_of(trained.model) == []
    assert len(entries(trained, "efficiency")) == 6
    assert len(entries(trained, "eval_efficiency")) == 2
    assert entries(trained, "efficiency/hidden")[-1] == monitor.counts("hidden").efficiency()
    for name in ("efficiency", "eval_efficiency", "eval_dead_share/head"):
        assert [logs[name] for logs in reporter.seen if name in logs] == entries(trained, name)
    assert all(
        "efficiency" not in entry for entry in trained.state.log_history if "eval_loss" in entry
    )
    assert monitor.scalars().keys() == {name for name in monitor.scalars() if name[:6] == "train/"}


def test_in_the_list_of_callbacks(tmp_path):
    trained = trainer(tmp_path, EfficiencyCallback("Linear"))
    trained.train()
    assert len(entries(trained, "eval_efficiency/head")) == 2


@pytest.mark.parametrize("order", [1, -1])
def test_the_best_model_and_early_stopping_in_any_order(order, tmp_path):
    stopping = EarlyStoppingCallback(1, early_stopping_threshold=1.0)
    callbacks = [EfficiencyCallback("Linear"), stopping][::order]
    trained = trainer(
        tmp_path,
        *callbacks,
        num_train_epochs=6,
        metric_for_best_model="efficiency",
        greater_is_better=True,
        save_strategy="epoch",
        load_best_model_at_end=True,
    )
    trained.train()
    assert trained.state.epoch == 2
    assert trained.state.best_metric == max(entries(trained, "eval_efficiency"))


@pytest.mark.parametrize("window", [None, 3])
def test_a_training_that_is_resumed(window, tmp_path):
    def callback():
        return EfficiencyCallback("hidden", every_n_steps=2, window=window)

    options = {"save_strategy": "steps", "save_steps": 5, "num_train_epochs": 1}
    whole = callback()
    trainer(tmp_path / "whole", first=[whole], **options).train()
    resumed = callback()
    trained = trainer(tmp_path / "whole", first=[resumed], **options)
    assert Path(tmp_path, "whole/checkpoint-5/efficiency_monitor.pt").exists()
    trained.train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-5"))
    assert resumed.monitor.global_step == 6
    assert resumed.monitor.counts("hidden") == whole.monitor.counts("hidden")


def test_accumulated_gradients(tmp_path):
    callback = EfficiencyCallback("hidden", every_n_steps=1, window=1)
    trainer(tmp_path, first=[callback], gradient_accumulation_steps=3, num_train_epochs=1).train()
    assert callback.monitor.global_step == 2
    assert callback.monitor.counts("hidden").total == 3 * 8
