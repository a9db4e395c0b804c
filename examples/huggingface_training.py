"""Hugging Face: a small BERT, made from nothing, learns to tell which of two letters is in a text.

The efficiency of its layers is in the log, and decides which model is the best.
"""

import matplotlib.pyplot as plt
import numpy as np
import transformers
from transformers import BertConfig, BertForSequenceClassification, EarlyStoppingCallback

from tensorstate_gpu.training import EfficiencyCallback

WORDS, LENGTH = 30, 12
rng = np.random.default_rng(0)
transformers.set_seed(0)


def texts(number):
    """Texts of letters from 2 on, and in one place the letter 0 or 1, which is the label."""
    found = rng.integers(2, WORDS, (number, LENGTH))
    labels = rng.integers(0, 2, number)
    found[np.arange(number), rng.integers(0, LENGTH, number)] = labels
    return [
        {"input_ids": text, "labels": int(label)} for text, label in zip(found, labels, strict=True)
    ]


model = BertForSequenceClassification(
    BertConfig(
        vocab_size=WORDS,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
    )
)
trainer = transformers.Trainer(
    model,
    transformers.TrainingArguments(
        "bert",
        num_train_epochs=5,
        learning_rate=2e-3,
        per_device_train_batch_size=32,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        logging_steps=8,
        metric_for_best_model="efficiency",
        greater_is_better=True,
        load_best_model_at_end=True,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    ),
    train_dataset=texts(512),
    eval_dataset=texts(128),
    compute_metrics=lambda found: {
        "accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())
    },
    callbacks=[EarlyStoppingCallback(3)],
)
# The activations of the feed-forward layers: what the first of their two products passes.
EfficiencyCallback("*intermediate.dense", every_n_steps=4).add_to(trainer)
trainer.remove_callback(transformers.PrinterCallback)  # the lines below are enough
trainer.train()
evaluations = [entry for entry in trainer.state.log_history if "eval_efficiency" in entry]
for entry in evaluations:
    print(
        f"epoch {entry['epoch']:.0f}: accuracy {entry['eval_accuracy']:.1%}, efficiency "
        f"{entry['eval_efficiency']:.1%}"
    )
print(f"best efficiency {trainer.state.best_metric:.1%}")

_, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for name, style in (("accuracy", "s--"), ("efficiency", "o-")):
    epochs = [entry["epoch"] for entry in evaluations]
    ax.plot(epochs, [100 * entry[f"eval_{name}"] for entry in evaluations], style, label=name)
ax.set(xlabel="epoch", ylabel="%", ylim=(0, 101))
ax.legend(frameon=False)
ax.figure.savefig("huggingface_training.png", dpi=80)
