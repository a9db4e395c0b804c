"""A small model and Hugging Face's Trainer; importing this takes seconds, so tests do it late."""

import warnings

import torch
from torch import nn

from benchmarks.studies.neuron_axes.torchvision_models import import_torchvision

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import_torchvision()  # which transformers imports
    import transformers
    from transformers import EarlyStoppingCallback, TrainerCallback  # noqa: F401

from tensorstate_gpu.bridges import huggingface_callback  # noqa: F401
from tensorstate_gpu.training import EfficiencyCallback  # noqa: F401
from tests.support.training_loops import batch


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


def trainer(folder, *callbacks, first=(), model=None, data=DATA, train_data=None, **options):
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
    model = Net() if model is None else model
    made = transformers.Trainer(
        model,
        arguments,
        train_dataset=data if train_data is None else train_data,
        eval_dataset=data[:16],
        callbacks=[*callbacks],
    )
    for callback in first:
        callback.add_to(made)
    return made


def small_bert():
    """A language model from a configuration, without a download, and data for it."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=8,
        num_labels=2,
    )
    words = torch.randint(20, (24, 6), generator=torch.Generator().manual_seed(0))
    data = [{"input_ids": each, "labels": n % 2} for n, each in enumerate(words)]
    return transformers.BertForSequenceClassification(config), data


def entries(trained, name):
    return [entry[name] for entry in trained.state.log_history if name in entry]
