"""EfficiencyCallback: a callback of Hugging Face's Trainer."""

from pathlib import Path

import pytest

from tests.support.torch_models import hooks_of

# Warnings of transformers are not ours to mend; ours are errors.
pytestmark = [
    pytest.mark.long,  # to import the Trainer and to run it takes seconds
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("error:::tensorstate_gpu"),
]


@pytest.fixture
def kit():
    from tests.support import huggingface_kit

    return huggingface_kit


def test_logs_history_and_reporters(kit, tmp_path):
    reporter, callback = kit.Reporter(), kit.EfficiencyCallback("Linear", every_n_steps=2)
    trained = kit.trainer(tmp_path, reporter, first=[callback])
    trained.train()
    monitor = callback.monitor
    assert monitor.global_step == 12
    assert monitor.counts("hidden").total == 3 * 8  # of the second epoch
    assert hooks_of(trained.model) == []
    assert len(kit.entries(trained, "efficiency")) == 6
    assert len(kit.entries(trained, "eval_efficiency")) == 2
    assert kit.entries(trained, "efficiency/hidden")[-1] == monitor.counts("hidden").efficiency()
    for name in ("efficiency", "eval_efficiency", "eval_dead_share/head"):
        assert [logs[name] for logs in reporter.seen if name in logs] == kit.entries(trained, name)
    assert all(
        "efficiency" not in entry for entry in trained.state.log_history if "eval_loss" in entry
    )
    assert monitor.scalars().keys() == {name for name in monitor.scalars() if name[:6] == "train/"}


def test_in_the_list_of_callbacks(kit, tmp_path):
    trained = kit.trainer(tmp_path, kit.EfficiencyCallback("Linear"))
    trained.train()
    assert len(kit.entries(trained, "eval_efficiency/head")) == 2


@pytest.mark.parametrize("order", [1, -1])
def test_the_best_model_and_early_stopping_in_any_order(kit, order, tmp_path):
    stopping = kit.EarlyStoppingCallback(1, early_stopping_threshold=1.0)
    callbacks = [kit.EfficiencyCallback("Linear"), stopping][::order]
    trained = kit.trainer(
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
    assert trained.state.best_metric == max(kit.entries(trained, "eval_efficiency"))


@pytest.mark.parametrize("window", [None, 3])
def test_a_training_that_is_resumed(kit, window, tmp_path):
    def callback():
        return kit.EfficiencyCallback("hidden", every_n_steps=2, window=window)

    options = {"save_strategy": "steps", "save_steps": 5, "num_train_epochs": 1}
    whole = callback()
    kit.trainer(tmp_path / "whole", first=[whole], **options).train()
    resumed = callback()
    trained = kit.trainer(tmp_path / "whole", first=[resumed], **options)
    assert Path(tmp_path, "whole/checkpoint-5/efficiency_monitor.pt").exists()
    trained.train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-5"))
    assert resumed.monitor.global_step == 6
    assert resumed.monitor.counts("hidden") == whole.monitor.counts("hidden")


def test_a_trainer_that_trains_twice(kit, tmp_path):
    """Its steps count from 0 again."""
    callback = kit.EfficiencyCallback("hidden", every_n_steps=2)
    trained = kit.trainer(tmp_path, first=[callback], num_train_epochs=1)
    for _ in range(2):
        trained.train()
        assert callback.monitor.global_step == 6
        assert callback.monitor.counts("hidden").total == 3 * 8


def test_accumulated_gradients(kit, tmp_path):
    callback = kit.EfficiencyCallback("hidden", every_n_steps=1, window=1)
    kit.trainer(
        tmp_path, first=[callback], gradient_accumulation_steps=3, num_train_epochs=1
    ).train()
    assert callback.monitor.global_step == 2
    assert callback.monitor.counts("hidden").total == 3 * 8
